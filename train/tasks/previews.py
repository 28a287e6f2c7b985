"""Validation images side by side, for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS = 4
"""Images (or pairs) of a preview."""
_CELL_PX = 192


def centre(image: Tensor) -> Tensor:
    """The centre of 1 x 1 x H x W, at most one cell of the grid in each direction."""
    height, width = (min(side, _CELL_PX) for side in image.shape[-2:])
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[..., top : top + height, left : left + width]


def grid(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Rows of 1 x 1 x H x W images as one 3 x H x W image on the CPU."""
    cells = [
        torch.cat([F.pad(i[0], (0, _CELL_PX - i.shape[-1], 0, _CELL_PX - i.shape[-2])) for i in row], dim=-1)
        for row in rows
    ]
    return torch.cat(cells, dim=-2).expand(3, -1, -1).cpu()
