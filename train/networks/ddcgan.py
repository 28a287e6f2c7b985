"""DDcGAN: a dense generator between two adversaries, one for each source, for inputs of equal size.

Source: Ma, Xu, Jiang, Mei, Zhang, "DDcGAN: a dual-discriminator conditional generative adversarial
network for multi-resolution image fusion", IEEE Trans. Image Processing 29, 2020. Images are
N x 1 x H x W float tensors in [0, 1]; the losses are computed on [-1, 1], as the generator's tanh gives it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusepipe.train.networks.borders import extend, trim

BORDER = 10
"""Reach of the ten convolutions: images are fused with so many repeated edge pixels around them."""

CRITIC_WIDTHS = (16, 32, 64)
"""Widths of the stride-2 convolutions of both discriminators (``fusepipe.train.networks.fusiongan.Critic``)."""

_WIDTH, _DENSE = 48, 4
_DECODER = (240, 240, 128, 64, 32)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class DdcGanNet(nn.Module):
    """The generator: encoder 2 -> 48 and four dense layers of 48 (240), decoder 240-240-128-64-32-1, tanh.

    All 3x3 with ReLU; 1,096,257 parameters, 1,095,552 multiply-accumulates per pixel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = _conv(2, _WIDTH)
        self.dense = nn.ModuleList([_conv(_WIDTH * n, _WIDTH) for n in range(1, _DENSE + 1)])
        self.decoder = nn.ModuleList([_conv(i, o) for i, o in pairwise(_DECODER)])
        self.head = _conv(_DECODER[-1], 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuses two images of one size, any; the result is in [0, 1]."""
        return trim(self.inner(extend(infrared, BORDER), extend(visible, BORDER)), BORDER)

    def inner(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """As in training: the convolutions pad with zeros."""
        features = F.relu(self.first(torch.cat((infrared, visible), dim=1) * 2 - 1))
        for layer in self.dense:
            features = torch.cat((features, F.relu(layer(features))), dim=1)
        for layer in self.decoder:
            features = F.relu(layer(features))
        image: Tensor = (torch.tanh(self.head(features)) + 1) / 2
        return image


def content_losses(made: Tensor, infrared: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Unweighted |F - ir|^2 and |grad F - grad vis|_1, means over pixels on [-1, 1] (eq. 5)."""
    # a distance in [-1, 1] is twice that in [0, 1]
    difference = 2 * (made - visible)
    gradient = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return {"intensity": 4 * F.mse_loss(made, infrared), "gradient": gradient}


def deceiving_loss(score: Tensor) -> Tensor:
    """What the generator pays where a discriminator sees through it: -log D(F); ``score`` is N x 1 logits.

    The non-saturating form of eqs. 3 and 4 (Goodfellow et al. 2014): log(1 - D(F)) has no gradient while
    the discriminators win, which they do in a short training.
    """
    return F.softplus(-score).mean()


def critic_loss(real: Tensor, made: Tensor) -> Tensor:
    """-log D(source) - log(1 - D(F)) of N x 1 logits (eqs. 8 and 9)."""
    return F.softplus(-real).mean() + F.softplus(made).mean()
