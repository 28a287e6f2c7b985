"""Distillation: a trained network as a term of a student's loss.

A teacher fuses the same crops as the student, in what it was trained in (crops of any size, one call a
batch), and needs no gradient. It shows the student an image where the unsupervised loss only says what
an image should have in common with its sources.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusepipe.errors import UsageError
from fusepipe.train.checkpoint import load_weights, read_tensors
from fusepipe.train.mfe_weights import load_mfe


class Teacher:
    """The network of a ``.safetensors`` file of ``mfe`` or ``stream``, frozen, on a device."""

    def __init__(self, path: Path, device: torch.device | None = None) -> None:
        if path.suffix != ".safetensors":
            raise UsageError(f"teacher: {path}: give the weights of mfe or stream (.safetensors), not a graph")
        _, metadata = read_tensors(path)
        network: nn.Module = load_mfe(path) if metadata.get("model") == "mfe" else load_weights(path)
        self._network = network.eval().requires_grad_(False).to(device or torch.device("cpu"))

    def __call__(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """What it makes of N x 1 x H x W images in [0, 1]: the same shape and range, without a gradient."""
        with torch.no_grad():
            taught: Tensor = self._network(infrared, visible)
        return taught


def distillation_loss(fused: Tensor, taught: Tensor) -> Tensor:
    """Mean absolute distance of the levels, and of the finite differences along both axes; a scalar, 0 at best.

    The differences carry what a student loses first: fine texture is little of an image's level.
    """
    level = F.l1_loss(fused, taught)
    across = F.l1_loss(fused.diff(dim=-1), taught.diff(dim=-1))
    return level + across + F.l1_loss(fused.diff(dim=-2), taught.diff(dim=-2))
