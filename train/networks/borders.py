"""Border replication for networks trained with zero padding, which would otherwise show a dark border."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def extend(image: Tensor, border: int) -> Tensor:
    """N x C x H x W with the edge pixels repeated ``border`` times outwards, for any size from 1 x 1."""
    return F.pad(image, (border,) * 4, mode="replicate")


def trim(image: Tensor, border: int) -> Tensor:
    """N x C x H x W without ``border`` pixels on each side."""
    return image[..., border:-border, border:-border]
