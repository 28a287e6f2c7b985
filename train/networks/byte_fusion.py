"""A fusion network with the interface of its exported graph: uint8 luma in and out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ByteFusion(nn.Module):
    """A fusion network with uint8 luma in and out, as exported: N x 1 x H x W to the same."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """N x 1 x H x W uint8 in and out; the network clamps to [0, 1]."""
        fused = self.network(infrared.float() / 255.0, visible.float() / 255.0)
        return torch.round(fused * 255.0).to(torch.uint8)
