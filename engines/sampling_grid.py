"""Warps as sampling grids for engines that register the infrared image (:mod:`fusepipe.engines.builder.warp_graph`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8, Warp
from fusepipe.core.fuser import FusionBatch

Grid = NDArray[np.float32]
Shape = tuple[int, int]  # (height, width)

CACHED_GRIDS = 8
"""Number of cached grids, one per warp and size, of 8 bytes per pixel."""


def normalised_grid(warp: Warp | None, infrared: Shape, padded: Shape) -> Grid:
    """The grid of ONNX GridSample (``align_corners=0``): padded H x W x 2 float32, (x, y) in the infrared image.

    -1 and 1 are the outer edges of the outermost infrared pixels; beyond them sampling repeats the edge pixels.
    ``padded`` is the visible size rounded up, with the last row and column repeated. ``None`` is the identity.
    Raises :class:`UsageError` if the warp's images are larger than ``padded``.
    """
    height, width = infrared
    if warp is None:
        pixels: Grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    else:
        pixels = warp.sampling_grid
    scale = np.array([2.0 / width, 2.0 / height])
    grid = np.asarray((pixels + 0.5) * scale - 1.0, np.float32)
    below, right = padded[0] - grid.shape[0], padded[1] - grid.shape[1]
    if below < 0 or right < 0:
        raise UsageError(f"the warp is for images of {grid.shape[:2]}, the visible image is padded to {padded}")
    return np.pad(grid, ((0, below), (0, right), (0, 0)), mode="edge")


class GridCache:
    """The grids of the most recent warps: each is computed once, not once per frame."""

    def __init__(self) -> None:
        self._grids: OrderedDict[tuple[str, Shape, Shape], Grid] = OrderedDict()

    def get(self, warp: Warp | None, infrared: Shape, padded: Shape) -> tuple[str, Grid]:
        """(key that identifies the grid, grid); see :func:`normalised_grid`."""
        key = ("" if warp is None else warp.version, infrared, padded)
        if key not in self._grids:
            self._grids[key] = normalised_grid(warp, infrared, padded)
            if len(self._grids) > CACHED_GRIDS:
                self._grids.popitem(last=False)
        self._grids.move_to_end(key)
        return str(key), self._grids[key]

    def of_batch(self, batch: FusionBatch, infrared: Shape, padded: Shape) -> tuple[list[str], list[Grid]]:
        """:meth:`get` for each pair of a batch: (keys, grids)."""
        warps = batch.warps or [None] * len(batch.visible)
        found = [self.get(warp, infrared, padded) for warp in warps]
        return [key for key, _ in found], [grid for _, grid in found]


def prefiltered_infrared(batch: FusionBatch) -> list[Luma8]:
    """The infrared images of a batch as the grid samples them, box-averaged where the warp shrinks them.

    Raises :class:`UsageError` if their sizes differ, or do not fit the visible images or the warps.
    """
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
            size = warp.sampling_grid.shape[:2]
            raise UsageError(f"the warp is for visible images of {size}, this one has {batch.shape}")
    return images
