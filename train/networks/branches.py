"""Convolutions that are trained as a sum of branches and folded into one for inference.

A small network learns faster when its kernels are over-parameterised: each 3x3 kernel is the sum of a 3x3, a 1x1, and
a 1x1 expansion followed by a 3x3 squeeze (Ding et al. 2021, "RepVGG"; Zhang et al. 2021, "ECBSR"). All are linear in
the kernel, so the branches are added before the convolution: training costs hardly more, and the exported network has
the plain network's layers and arithmetic.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusepipe.train.networks.student import StudentNet

_EXPANSION = 2


class BranchedConv(nn.Module):
    """A 3x3 convolution of stride 1 and padding 1, initialised from a plain one plus random branches."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        outputs, inputs = plain.weight.shape[:2]
        between = _EXPANSION * max(outputs, inputs)
        assert plain.bias is not None
        self.weight, self.bias = plain.weight, plain.bias
        self.point = nn.Parameter(torch.randn(outputs, inputs, 1, 1) * (0.5 * (0.5 / inputs) ** 0.5))
        self.expand = nn.Parameter(torch.randn(between, inputs) * (1 / inputs) ** 0.5)
        self.squeeze = nn.Parameter(torch.randn(outputs, between, 3, 3) * (0.5 * (1 / (9 * between)) ** 0.5))

    def kernel(self) -> Tensor:
        """The sum of the branches: outputs x inputs x 3 x 3."""
        squeezed = torch.einsum("omyx,mi->oiyx", self.squeeze, self.expand)
        return self.weight + F.pad(self.point, (1, 1, 1, 1)) + squeezed

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H x W."""
        return F.conv2d(features, self.kernel(), self.bias, padding=1)


def branch(network: StudentNet) -> None:
    """Adds random branches to the hidden layers of a plain student, in place."""
    for layers in (network.encoder, network.decoder):
        for index, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d):
                layers[index] = BranchedConv(layer)


def folded(network: StudentNet) -> StudentNet:
    """The equivalent plain student, as a copy."""
    plain = copy.deepcopy(network)
    for layers in (plain.encoder, plain.decoder):
        for index, layer in enumerate(layers):
            if isinstance(layer, BranchedConv):
                outputs, inputs = layer.weight.shape[:2]
                layers[index] = single = nn.Conv2d(inputs, outputs, 3, padding=1)
                with torch.no_grad():
                    single.weight.copy_(layer.kernel())
                    single.bias.copy_(layer.bias)  # type: ignore[union-attr]
    return plain
