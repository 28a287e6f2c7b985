"""Local alignment: a coarse field of residual displacements between the bands, on top of the warp. Pure.

A warp holds for one plane: what is nearer or farther lies beside its visible counterpart. :class:`LocalAlignment`
compares the gradient fields (:mod:`fusepipe.calibration.gradient_field`) of both bands, shrunk to ``WIDTH_PX``, cell by
cell at small displacements. Around its peak a cell's correlation is a quadratic: its vertex says where the cell moves,
its curvature how well that is known in each direction (an edge says nothing along itself). Neighbours and earlier pairs
add to this information, against a prior of no displacement, so that the field is zero where nothing is known. The
infrared image is compared as moved by the field so far: what is left tends to zero, where the quadratic is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.gradient_field import Field, gradient_field
from fusepipe.core.frames import Size

Float32Array = NDArray[np.float32]
Displacement = NDArray[np.float32]
"""Rows x columns x 2 (x, y): how far beside a cell the registered infrared image shows what belongs there."""

WIDTH_PX = 160
CELL_PX = 10  # of the shrunk images
RADIUS_PX = 2  # displacements tried, from the field so far
WINDOW_CELLS = 0.9  # standard deviation of the window in which a cell is compared
SPREAD_CELLS = 0.7  # and of that in which neighbours add their information
BROAD, BROAD_CELLS = 2.0, 2.5  # weight and standard deviation of the neighbourhood that decides on a peak
MIN_ENERGY = 0.02  # mean squared length of a cell's gradient field: below it there are no edges
START_INFORMATION = 0.5  # that they lie on the plane
START_CELLS = 2.0  # standard deviation of the neighbourhood that agrees on a plane
SHARPNESS = 45.0  # of the likelihood exp(SHARPNESS * correlation)
AGREEING = (0.1, 0.3)  # correlations that count for nothing, and in full
SHARE = (0.75, 0.95)  # of the likelihood that is at the peak: for nothing, and in full
CURVATURE = 0.1  # of the correlation at a peak that is known in full
MAX_INFORMATION = 4.0  # of one cell, per shrunk pixel squared
PRIOR = 0.12  # information that there is no displacement
MEMORY = 0.85  # part of the information that is left when the next pair is compared
START_AGREEING = 0.2  # correlation of a cell that starts from a plane
BETTER = 0.06  # correlation by which a plane has to agree better than the field so far
CUT = 0.3  # correlation of successive visible gradient fields below which the scene has changed


@dataclass
class LocalAlignment:
    """The field of one rig; ``limit`` is the largest displacement, as a fraction of the visible width.

    ``displacement`` is the field in fractions of the width, ``None`` before the first pair. Used by one thread.
    """

    limit: float
    displacement: Displacement | None = None
    _information: Float32Array | None = field(default=None, repr=False)
    _last: Field | None = field(default=None, repr=False)

    def reset(self) -> None:
        """Forgets everything: the warp or the scene is another one."""
        self.displacement = self._information = self._last = None

    def see(self, visible: Float32Array) -> bool:
        """Takes the visible image of the next pair; resets, and returns ``True``, where the scene is another one.

        ``visible`` is HxW float32 of :func:`shrunk_size`.
        """
        there = gradient_field(visible)
        known = self._last is not None and self._last.shape == there.shape and _similarity(self._last, there) >= CUT
        if not known:
            self.reset()
        self._last = there
        return not known

    def compare(self, infrared: Float32Array, seen: Float32Array | None) -> Displacement:
        """Compares the infrared image of the pair with the visible one that was seen last, and updates the field.

        ``infrared`` is HxW float32, registered and moved by the field so far; ``seen`` is HxW float32, 1 where the
        infrared camera sees, ``None`` for everywhere. May be called again for the same pair, with what has been moved.
        """
        there = self._last
        if there is None:
            raise ValueError("see() takes the visible image first")
        height, width = there.shape[:2]
        here = gradient_field(infrared)
        if seen is not None:
            here = here * seen[..., None]
        information, pull = _matches(_correlations(here, there, cells_of((width, height))))
        xx, xy, yy = (information[..., i] for i in range(3))
        if self.displacement is not None:  # what was compared has been moved so far already
            x, y = (self.displacement[..., i] * np.float32(width) for i in range(2))
            pull = pull + np.stack([xx * x + xy * y, xy * x + yy * y], -1)
        new = np.concatenate([information, pull], -1)
        self._information = new if self._information is None else np.float32(MEMORY) * self._information + new
        self.displacement = self._solved(self._information, width)
        return self.displacement

    def agreement(self, infrared: Float32Array, seen: Float32Array | None) -> Float32Array:
        """Rows x columns: the highest correlation of each cell's neighbourhood at small displacements, -1..1.

        Arguments as of :meth:`compare`.
        """
        there = self._last
        if there is None:
            raise ValueError("see() takes the visible image first")
        here = gradient_field(infrared)
        if seen is not None:
            here = here * seen[..., None]
        correlations = _correlations(here, there, cells_of((there.shape[1], there.shape[0])))
        around = cv2.GaussianBlur(correlations, (0, 0), START_CELLS, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(((correlations + around) / 2).max(-1), np.float32)

    def start_from(self, displacement: Displacement, agreement: Float32Array, now: Float32Array) -> bool:
        """Puts the cells that agree better when moved by a displacement there, and forgets what was known of them.

        ``agreement`` is that with the displacement, ``now`` that with the field so far. Returns whether any cell moves.
        """
        better = (agreement > now + BETTER) & (agreement > START_AGREEING)
        if not better.any():
            return False
        old = np.zeros_like(displacement) if self.displacement is None else self.displacement
        self.displacement = np.where(better[..., None], displacement, old)
        known = np.zeros((*better.shape, 5), np.float32) if self._information is None else self._information
        start = np.zeros_like(known)
        start[..., 0] = start[..., 2] = START_INFORMATION
        width = 1 if self._last is None else self._last.shape[1]
        start[..., 3:] = displacement * np.float32(START_INFORMATION * width)
        self._information = np.where(better[..., None], start, known)
        return True

    def _solved(self, known: Float32Array, width: int) -> Displacement:
        spread = cv2.GaussianBlur(known, (0, 0), SPREAD_CELLS, borderType=cv2.BORDER_REPLICATE)
        xx, xy, yy, x, y = (spread[..., i] for i in range(5))
        xx, yy = xx + np.float32(PRIOR), yy + np.float32(PRIOR)
        determinant = (xx * yy - xy * xy) * np.float32(width)
        found = np.stack([yy * x - xy * y, xx * y - xy * x], axis=-1) / determinant[..., None]
        length = np.hypot(found[..., 0], found[..., 1])
        return np.asarray(found * np.minimum(1.0, self.limit / np.maximum(length, 1e-9))[..., None], np.float32)


def shrunk_size(visible: Size) -> Size:
    """(width, height) of the images that are compared, for a visible (width, height)."""
    width = min(WIDTH_PX, visible[0])
    return width, max(1, round(width * visible[1] / visible[0]))


def cells_of(shrunk: Size) -> Size:
    """(columns, rows) of the field for shrunk images of (width, height)."""
    return max(1, round(shrunk[0] / CELL_PX)), max(1, round(shrunk[1] / CELL_PX))


def _similarity(one: Field, other: Field) -> float:
    # not BLAS: its threads wait for one another where the processor is busy
    product, own, others = (float((a * b).sum()) for a, b in ((one, other), (one, one), (other, other)))
    return product / (math.sqrt(own * others) + 1e-9)


def _averaged(plane: Float32Array, cells: Size) -> Float32Array:
    """HxW to the mean of each cell, and of its neighbours by their distance."""
    small = cv2.resize(plane, cells, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), WINDOW_CELLS, borderType=cv2.BORDER_REPLICATE), np.float32)


def _correlations(here: Field, there: Field, cells: Size) -> Float32Array:
    """Rows x columns x D^2: the correlation -1..1 of each cell of ``there`` with ``here`` beside it by (dx, dy)."""
    r = RADIUS_PX
    side = 2 * r + 1
    height, width = here.shape[:2]
    # planes one by one: sums over pairs of interleaved numbers take ten times as long
    own = cv2.split(here)
    framed = [cv2.copyMakeBorder(plane, r, r, r, r, cv2.BORDER_CONSTANT) for plane in cv2.split(there)]
    energies = [np.maximum(_averaged(a * a + b * b, cells), MIN_ENERGY) for a, b in (own, cv2.split(there))]
    scale = 1.0 / np.sqrt(energies[0] * energies[1])
    product, other = np.empty((2, height, width), np.float32)
    found = np.empty((cells[1], cells[0], side * side), np.float32)
    for index in range(side * side):
        dy, dx = divmod(index, side)
        part = np.s_[2 * r - dy : 2 * r - dy + height, 2 * r - dx : 2 * r - dx + width]
        np.multiply(own[0], framed[0][part], out=product)
        np.multiply(own[1], framed[1][part], out=other)
        product += other
        found[..., index] = cv2.resize(product, cells, interpolation=cv2.INTER_AREA)
    found = cv2.GaussianBlur(found, (0, 0), WINDOW_CELLS, borderType=cv2.BORDER_REPLICATE)  # all at once: see _averaged
    return np.asarray(found * scale[..., None], np.float32)


def _matches(correlations: Float32Array) -> tuple[Float32Array, Float32Array]:
    """What each cell says, in shrunk pixels: information (xx, xy, yy), and information times displacement (x, y).

    The neighbourhood decides which peak it is and how sure; the cell's own correlations say where exactly it is.
    """
    r, side = RADIUS_PX, 2 * RADIUS_PX + 1
    around = cv2.GaussianBlur(correlations, (0, 0), BROAD_CELLS, borderType=cv2.BORDER_REPLICATE)
    agreed = (correlations + BROAD * around) / (1 + BROAD)
    peak, best = agreed.argmax(-1), agreed.max(-1)
    likely = np.exp(np.float32(SHARPNESS) * (agreed - best[..., None]))
    share = (likely * _BESIDE[peak]).sum(-1) / likely.sum(-1)
    sure = _ramp(best, AGREEING) * _ramp(share, SHARE)
    row, column = np.clip(peak // side, 1, side - 2), np.clip(peak % side, 1, side - 2)
    c = np.take_along_axis(correlations, (row * side + column)[..., None] + _AROUND, -1)
    xx, yy = (np.maximum(2 * c[..., 4] - c[..., i] - c[..., j], 0.0) for i, j in ((3, 5), (1, 7)))
    most = 0.95 * np.sqrt(xx * yy)  # the quadratic has its peak there
    xy = np.clip((c[..., 2] + c[..., 6] - c[..., 0] - c[..., 8]) / 4, -most, most)
    # the vertex is at most one pixel away
    slope_x, slope_y = np.clip((c[..., 5] - c[..., 3]) / 2, -xx, xx), np.clip((c[..., 7] - c[..., 1]) / 2, -yy, yy)
    x, y = column - r, row - r
    information = np.stack([xx, xy, yy], -1)
    pull = np.stack([xx * x + xy * y + slope_x, xy * x + yy * y + slope_y], -1)
    scale = (sure * (MAX_INFORMATION / np.maximum(xx + yy, CURVATURE)))[..., None]
    return np.asarray(information * scale, np.float32), np.asarray(pull * scale, np.float32)


def _ramp(value: Float32Array, ends: tuple[float, float]) -> Float32Array:
    return np.asarray(np.clip((value - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0), np.float32)


def _beside() -> Float32Array:
    """D^2 x D^2: 1 for displacements beside one another."""
    y, x = np.divmod(np.arange((2 * RADIUS_PX + 1) ** 2), 2 * RADIUS_PX + 1)
    return np.asarray((np.abs(y[:, None] - y) <= 1) & (np.abs(x[:, None] - x) <= 1), np.float32)


_BESIDE = _beside()
_AROUND = np.array([dy * (2 * RADIUS_PX + 1) + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
