"""DenseFuse: an auto-encoder of natural photographs whose features are fused without training.

Source: Li, Wu, "DenseFuse: a fusion approach to infrared and visible images", IEEE Trans. Image
Processing 28(5), 2019. All images are N x 1 x H x W float tensors in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusepipe.train.networks.borders import extend, trim

BORDER = 8
"""Radius of the receptive field of the eight convolutions: edge pixels are replicated this many times."""

_EPSILON = 1e-6


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class DenseFuseNet(nn.Module):
    """Encoder 1 -> 16 and three dense layers of 16 (64 features), decoder 64-64-32-16-1, all 3x3 with ReLU.

    74,193 parameters. ``l1_norm`` weights the features by their activity (section II-C2) instead of
    averaging them; the network's weights are the same.
    """

    def __init__(self, *, l1_norm: bool = False) -> None:
        super().__init__()
        self.l1_norm = l1_norm
        self.first = _conv(1, 16)
        self.dense = nn.ModuleList([_conv(16, 16), _conv(32, 16), _conv(48, 16)])
        self.decoder = nn.ModuleList([_conv(64, 64), _conv(64, 32), _conv(32, 16)])
        self.head = _conv(16, 1)

    def encode(self, image: Tensor) -> Tensor:
        """N x 64 x H x W features, none below 0."""
        features = F.relu(self.first(image))
        for layer in self.dense:
            features = torch.cat((features, F.relu(layer(features))), dim=1)
        return features

    def decode(self, features: Tensor) -> Tensor:
        """The image of N x 64 x H x W features; not clipped to [0, 1], so that errors beyond it have a gradient."""
        for layer in self.decoder:
            features = F.relu(layer(features))
        image: Tensor = self.head(features)
        return image

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuses two images of one size, any; the result is in [0, 1]."""
        fuse = fuse_by_l1_norm if self.l1_norm else fuse_by_addition
        features = fuse(self.encode(extend(infrared, BORDER)), self.encode(extend(visible, BORDER)))
        return trim(self.decode(features), BORDER).clamp(0.0, 1.0)


def fuse_by_addition(first: Tensor, second: Tensor) -> Tensor:
    """The addition of both feature maps (eq. 4), halved.

    The decoder was trained on features of one image: the plain sum comes out about twice as bright, and normalising it
    to its own range would flicker in video.
    """
    return (first + second) / 2


def fuse_by_l1_norm(first: Tensor, second: Tensor) -> Tensor:
    """The features weighted by their l1-norm over the channels, averaged over 3x3 (eqs. 5 to 7, r = 1)."""

    def activity(features: Tensor) -> Tensor:
        norm = features.abs().sum(dim=1, keepdim=True)
        return F.avg_pool2d(norm, 3, stride=1, padding=1, count_include_pad=False) + _EPSILON

    a, b = activity(first), activity(second)
    weight = a / (a + b)
    return weight * first + (1 - weight) * second
