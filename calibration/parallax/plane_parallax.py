"""How far beside one plane of a rig another one lies: the displacement that takes local alignment there."""

from __future__ import annotations

import cv2
import numpy as np

from fusepipe.calibration.parallax.local_alignment import Displacement, cells_of
from fusepipe.core.frames import Warp

EDGE = 2  # pixels at the border, which have no gradient of their own
MIN_PIXELS = 30  # that both planes see


def plane_displacement(own: Warp, other: Warp) -> Displacement:
    """Rows x columns x 2 of :func:`cells_of`, in fractions of the width: where ``own`` shows what ``other`` aligns;
    zero where no part of the view is common to both.

    Both warps are of one pair of sizes; that of the visible image may be small.
    """
    grid, there = (np.asarray(warp.sampling_grid, np.float32) for warp in (own, other))
    height, width = grid.shape[:2]
    across, down = np.gradient(grid, axis=1), np.gradient(grid, axis=0)  # infrared pixels a visible one
    by = there - grid
    determinant = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    x = (by[..., 0] * down[..., 1] - by[..., 1] * down[..., 0]) / determinant
    y = (by[..., 1] * across[..., 0] - by[..., 0] * across[..., 1]) / determinant
    field = np.stack([x, y], axis=-1)[EDGE:-EDGE, EDGE:-EDGE]
    inside = np.ones(field.shape[:2], np.bool_)
    for valid in (own.valid, other.valid):
        if valid is not None:  # outside of the infrared image a grid stays at its border
            inside &= cv2.erode(valid, np.ones((3, 3), np.uint8))[EDGE:-EDGE, EDGE:-EDGE] == 255
    # the plane that fits it best: planes are seen where neither camera sees the other's border
    v, u = np.mgrid[EDGE : height - EDGE, EDGE : width - EDGE]
    columns, rows = cells_of((width, height))
    cells = np.zeros((rows, columns, 2), np.float32)
    if int(inside.sum()) < MIN_PIXELS:
        return cells
    known = np.stack([np.ones(int(inside.sum())), u[inside], v[inside]], axis=-1)
    fitted = np.linalg.lstsq(known, field[inside], rcond=None)[0]
    across_cells = (np.arange(columns) + 0.5) * (width / columns) - 0.5
    down_cells = (np.arange(rows) + 0.5) * (height / rows) - 0.5
    there = fitted[0] + across_cells[None, :, None] * fitted[1] + down_cells[:, None, None] * fitted[2]
    return np.asarray(there / width, np.float32)
