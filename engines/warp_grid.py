"""Warps as the ``places`` input of a graph that registers by itself (:mod:`fusepipe.engines.builder.warp`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8, Warp
from fusepipe.core.fuser import FusionBatch

Grid = NDArray[np.float32]
Size = tuple[int, int]  # (height, width)

HIDDEN = -4.0
"""Both coordinates of a pixel that the infrared camera does not see; -1 to 1 is the image."""
KEPT = 8
"""Grids that are kept: one a warp and size, 8 bytes a pixel."""


def sampling_grid(warp: Warp | None, infrared: Size, padded: Size) -> Grid:
    """padded H x W x 2 float32: where each pixel of the result lies in the infrared image, (x, y).

    -1 and 1 are the outer edges of the outermost infrared pixels (``align_corners`` 0), and :data:`HIDDEN` stands where
    the camera does not see. ``padded`` is the visible size rounded up; the last row and column are repeated. Without a
    warp each pixel stays where it is.
    """
    height, width = infrared
    if warp is None:
        places: Grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
        valid: Luma8 | None = None
    else:
        places, valid = warp.sampling_grid, warp.valid
    scale = np.array([2.0 / width, 2.0 / height])
    grid = np.asarray((places + 0.5) * scale - 1.0, np.float32)
    if valid is not None:
        grid[valid == 0] = HIDDEN
    below, right = padded[0] - grid.shape[0], padded[1] - grid.shape[1]
    if below < 0 or right < 0:
        raise UsageError(f"the warp gives images of {grid.shape[:2]}, the visible one has {padded}")
    return np.pad(grid, ((0, below), (0, right), (0, 0)), mode="edge")


class WarpGrids:
    """The grids of the last few warps, so that one is made once a warp and not once a frame."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, Size, Size], Grid] = OrderedDict()

    def of(self, warp: Warp | None, infrared: Size, padded: Size) -> tuple[str, Grid]:
        """(what it depends on, the grid); see :func:`sampling_grid`."""
        key = ("" if warp is None else warp.version, infrared, padded)
        if key not in self._made:
            self._made[key] = sampling_grid(warp, infrared, padded)
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return str(key), self._made[key]


def raw_infrared(batch: FusionBatch) -> list[Luma8]:
    """The infrared images of a batch as the graph samples them, all of one size: averaged where they are shrunk."""
    warps: Sequence[Warp | None] = batch.warps or [None] * len(batch.infrared)
    images = [
        image if warp is None else np.asarray(warp.prefilter(image), np.uint8)
        for image, warp in zip(batch.infrared, warps, strict=True)
    ]
    if len({image.shape for image in images}) > 1:
        raise UsageError("the infrared images of a batch differ in size; submit them one by one")
    for image, warp in zip(images, warps, strict=True):
        if warp is None and image.shape != batch.shape:
            raise UsageError(f"infrared {image.shape} and visible {batch.shape} differ in size and have no warp")
        if warp is not None and warp.sampling_grid.shape[:2] != batch.shape:
            raise UsageError(f"a warp for visible images of {warp.sampling_grid.shape[:2]}, this one has {batch.shape}")
    return images
