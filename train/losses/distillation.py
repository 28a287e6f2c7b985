"""Distillation: the distance of a student's image to that of a trained network."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def distillation_loss(fused: Tensor, taught: Tensor) -> Tensor:
    """Mean absolute distance of the levels, and of the finite differences along both axes; a scalar, 0 at best.

    The differences weight fine texture, which a student loses first and which contributes little to the levels.
    """
    level = F.l1_loss(fused, taught)
    across = F.l1_loss(fused.diff(dim=-1), taught.diff(dim=-1))
    return level + across + F.l1_loss(fused.diff(dim=-2), taught.diff(dim=-2))
