"""FusionGAN: a generator that keeps infrared radiation and learns visible detail from an adversary.

Source: Ma, Yu, Liang, Li, Jiang, "FusionGAN: a generative adversarial network for infrared and
visible image fusion", Information Fusion 48, 2019. Images are N x 1 x H x W float tensors in [0, 1].
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusepipe.train.networks.borders import extend

BORDER = 6
"""Pixels that the unpadded convolutions remove on each side: a patch of 132 gives one of 120."""

_LAYERS = ((2, 256, 5), (256, 128, 5), (128, 64, 3), (64, 32, 3))
_SLOPE = 0.2
# the statistics of a few patches vary strongly: averaged over the last fifty steps
_MOMENTUM = 0.02


class FusionGanNet(nn.Module):
    """The generator: 5x5 2 -> 256, 5x5 -> 128, 3x3 -> 64, 3x3 -> 32 (batch norm, leaky ReLU), 1x1 -> 1, tanh.

    925,633 parameters, 924,192 multiply-accumulates per pixel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(i, o, kernel) for i, o, kernel in _LAYERS])
        self.norms = nn.ModuleList([nn.BatchNorm2d(o, momentum=_MOMENTUM) for _, o, _ in _LAYERS])
        self.head = nn.Conv2d(_LAYERS[-1][1], 1, 1)

    def inner(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Without padding, as in training: N x 1 x (H - 12) x (W - 12)."""
        features = torch.cat((infrared, visible), dim=1) * 2 - 1
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = F.leaky_relu(norm(convolution(features)), _SLOPE)
        image: Tensor = (torch.tanh(self.head(features)) + 1) / 2
        return image

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuses images of any size: their edge pixels are repeated outwards."""
        return self.inner(extend(infrared, BORDER), extend(visible, BORDER))

    def folded(self) -> FusionGanNet:
        """A copy in evaluation mode whose batch norms are part of the convolutions."""
        copy = FusionGanNet()
        copy.load_state_dict(self.state_dict())
        copy.eval()
        for index, (convolution, norm) in enumerate(zip(copy.convolutions, copy.norms, strict=True)):
            # ModuleList has no element types
            copy.convolutions[index] = fuse_conv_bn_eval(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm))
            copy.norms[index] = nn.Identity()
        return copy
