"""DDcGAN: a dense generator between two adversaries, one for each source, for inputs of equal size.

Source: Ma, Xu, Jiang, Mei, Zhang, "DDcGAN: a dual-discriminator conditional generative adversarial
network for multi-resolution image fusion", IEEE Trans. Image Processing 29, 2020. Images are
N x 1 x H x W float tensors in [0, 1].
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusepipe.train.networks.borders import extend, trim

BORDER = 10
"""Radius of the receptive field of the ten convolutions: edge pixels are replicated this many times."""

CRITIC_WIDTHS = (16, 32, 64)
"""Widths of the stride-2 convolutions of both discriminators (``fusepipe.train.networks.discriminator``)."""

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
