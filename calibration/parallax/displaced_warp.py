"""A warp whose map is displaced by the coarse field of :mod:`fusepipe.calibration.parallax.local_alignment`."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.parallax.local_alignment import Displacement, Float32Array, cells_of, shrunk_size
from fusepipe.core.frames import Pixels, Size, Warp

Map = NDArray[np.float32]

# in visible pixels: a map is not made again where the displacement of nearly all cells changes by less than the first,
# and that of none by more than the second
STEADY_PX, MOVED_PX = 0.25, 1.0
NEARLY_ALL = 0.95


class DisplacedWarp:
    """Applies ``warp`` with its map moved by a displacement of cells; without one it is ``warp.apply``.

    ``infrared_size`` is (width, height), as is ``shrunk_size``, that of the images that are compared. Used by one
    thread.
    """

    def __init__(self, warp: Warp, infrared_size: Size) -> None:
        grid = warp.sampling_grid
        self._warp = warp
        self._x, self._y = (np.ascontiguousarray(plane) for plane in cv2.split(grid))
        self.shrunk_size = shrunk_size((grid.shape[1], grid.shape[0]))
        self._grid = cv2.resize(grid, self.shrunk_size, interpolation=cv2.INTER_AREA)
        self._shrink = _shrink(self._grid, infrared_size)
        self._maps: tuple[Map, Map] | None = None
        # of which the maps are: kept, since new memory of this size costs more than what is written to it
        self._mapped: Displacement | None = None
        self._buffers: tuple[Map, Map, Map] | None = None
        self._displacement: Displacement | None = None

    @property
    def version(self) -> str:
        """That of the warp."""
        return self._warp.version

    @cached_property
    def seen(self) -> Float32Array | None:
        """HxW float32 of the shrunk size, 1 where the infrared camera sees all of a pixel; ``None`` for everywhere."""
        valid = self._warp.valid
        if valid is None:
            return None
        whole = cv2.resize(valid, self.shrunk_size, interpolation=cv2.INTER_AREA) == 255
        return np.asarray(whole, np.float32)

    def moved_px(self, other: DisplacedWarp) -> float:
        """Mean distance of its positions from those of another warp, in infrared pixels; infinite for other sizes."""
        if self._grid.shape != other._grid.shape:
            return float("inf")
        return float(np.abs(self._grid - other._grid).mean())

    def displace(self, displacement: Displacement | None) -> bool:
        """Moves the map by rows x columns x 2 of :func:`cells_of`, in fractions of the visible width; ``None``: not.

        Returns whether that changes the map, which is left as it is for less than the noise of the field.
        """
        self._displacement = displacement
        if displacement is None or not displacement.any():
            known = self._mapped is not None
            self._maps = self._mapped = None
            return known
        width, height = self._x.shape[1], self._x.shape[0]
        if self._mapped is not None and _steady(np.abs(displacement - self._mapped).max(axis=-1) * width):
            return False
        self._mapped = displacement
        if self._buffers is None:
            self._buffers = np.empty_like(self._x), np.empty_like(self._x), np.empty_like(self._x)
        *maps, enlarged = self._buffers
        for plane, own, moved in zip(
            cv2.split(self._displaced_cells(displacement)), (self._x, self._y), maps, strict=True
        ):
            cv2.resize(plane, (width, height), enlarged, interpolation=cv2.INTER_LINEAR)
            cv2.add(own, enlarged, moved)
        self._maps = maps[0], maps[1]
        return True

    def apply(self, pixels: Pixels) -> Pixels:
        """Infrared HxW pixels to the visible geometry, same dtype."""
        if self._maps is None:
            return self._warp.apply(pixels)
        warped: Pixels = cv2.remap(
            self._warp.prefilter(pixels), *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return warped

    def shrunk(self, pixels: Pixels, displacement: Displacement | None = None) -> Float32Array:
        """Infrared HxW pixels to HxW float32 of the shrunk size, moved by a displacement, by default that in force."""
        height, width = pixels.shape
        grid = self._grid
        displacement = self._displacement if displacement is None else displacement
        if displacement is not None:
            grid = grid + cv2.resize(self._displaced_cells(displacement), self.shrunk_size)
        # by a whole number: the mean of whole pixels takes a fifth of the time
        by_whole = max(1, round(self._shrink))
        size = max(1, width // by_whole), max(1, height // by_whole)
        if size != (width, height):
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            by = np.array([size[0] / width, size[1] / height], np.float32)
            grid = (grid + 0.5) * by - 0.5
        moved = cv2.remap(
            pixels, np.ascontiguousarray(grid, np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(moved, np.float32)

    def _displaced_cells(self, displacement: Displacement) -> Map:
        """The displacement of each cell in infrared pixels: by how much its position in the map changes."""
        width, height = self.shrunk_size
        columns, rows = cells_of(self.shrunk_size)
        u = ((np.arange(columns, dtype=np.float32) + 0.5) * np.float32(width / columns) - 0.5)[None, :]
        v = ((np.arange(rows, dtype=np.float32) + 0.5) * np.float32(height / rows) - 0.5)[:, None]
        u, v = np.broadcast_to(u, (rows, columns)).copy(), np.broadcast_to(v, (rows, columns)).copy()
        x, y = displacement[..., 0] * np.float32(width), displacement[..., 1] * np.float32(width)
        there = cv2.remap(self._grid, u + x, v + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(there - cv2.remap(self._grid, u, v, cv2.INTER_LINEAR), np.float32)


def _steady(moved_px: Float32Array) -> bool:
    return bool((moved_px < STEADY_PX).mean() >= NEARLY_ALL and moved_px.max() < MOVED_PX)


def _shrink(grid: Map, infrared_size: Size) -> float:
    """How many infrared pixels one pixel of a shrunk map covers along a side, at least 1."""
    if min(grid.shape[:2]) < 2:
        return 1.0
    step = float(np.median(np.hypot(*np.moveaxis(np.diff(grid, axis=1), -1, 0))))
    return min(max(1.0, step), float(min(infrared_size)))
