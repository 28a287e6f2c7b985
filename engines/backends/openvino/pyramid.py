"""The finer levels of a pyramid network (:mod:`fusepipe.train.networks.pyramid`) on a CPU, in 16-bit integers.

The network fuses the coarsest level; a finer level adds the sources' detail by gates and gains that the network gives.
In a runtime's graph the finer levels are a dozen element-wise operations in fp32, each a pass over main memory. Here
they are OpenCV's and NumPy's 16-bit passes over bands of rows in recycled buffers, equal to the graph within one grey
level.

Fixed point: grey levels in 1/32, gates in 1/4096, gains in 1/8192.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.buffers import BufferPool
from fusepipe.core.frames import Luma8

Short = NDArray[np.int16]
Maps = NDArray[np.float32]

_FRACTION_BITS = 5
BAND = 576
"""Rows of a finer level that are computed together, so that large pictures need little scratch memory. A multiple of
how much a level is larger than the maps that the network gives; smaller bands spend more on the rows beside them."""
_SCRATCH = 5  # planes of a band
GREY = 1 << _FRACTION_BITS
GATE = 4096
GAIN = 8192
COARSE_SCALE = 255 * GREY
"""What the coarse network calls 1.0 in this module's units."""


def coarse_shape(size: tuple[int, int], levels: int, visible_levels: int = 0) -> tuple[int, int]:
    """(height, width) of the coarsest level of images of ``size``, padded so that every level has even sides."""
    multiple = 2 << (levels + visible_levels)
    height, width = (-(-side // multiple) * 2 for side in size)
    return height, width


class Pyramid:
    """The finer levels for one size of images; owns its buffers, so for one thread and one pair at a time.

    ``height`` and ``width`` are the visible image's. ``sharpness`` is the network's, finest level first.
    ``visible_levels``: how many times the visible image is twice as large as the infrared one (sides rounded up); those
    levels take the visible image's detail as it is. Sides that are not whole multiples are padded with the edge.
    """

    def __init__(self, height: int, width: int, sharpness: Sequence[float], visible_levels: int = 0) -> None:
        levels = len(sharpness)
        self._size = (height, width)
        self._visible_levels = visible_levels
        coarse = coarse_shape(self._size, levels, visible_levels)
        self._shapes = [(coarse[0] << k, coarse[1] << k) for k in reversed(range(visible_levels + levels + 1))]
        self._levels = levels
        # slope of z against the details' difference: gates are in 1/4096, details in 1/32 of a grey level
        self._slopes = [float(k) * GATE / COARSE_SCALE for k in sharpness]
        self._visible = [np.empty(shape, np.int16) for shape in self._shapes]
        self._infrared = [np.empty(shape, np.int16) for shape in self._shapes[visible_levels:]]
        self._coarse = _Fixed(coarse, COARSE_SCALE)
        self._gates = _Fixed((levels, *coarse), GATE)
        self._gains = _Fixed((levels, coarse[0] // 2, coarse[1] // 2), GAIN)
        self._fused = BufferPool()
        between = self._shapes[1 : visible_levels + levels]
        self._result = [np.empty((0, 0), np.int16), *(np.empty(shape, np.int16) for shape in between)]  # none for 0
        self._scratch = np.empty((_SCRATCH, max(map(self._band_px, range(visible_levels + levels)))), np.int16)

    def _band_px(self, at: int) -> int:
        """Pixels that a band of a level takes, with the rows beside it that interpolation needs."""
        height, width = self._shapes[at]
        margin = 2 if at < self._visible_levels else 2 * (self._shapes[at][0] // (self._shapes[-1][0] // 2))
        return (min(BAND, height) + 2 * margin) * width

    @property
    def coarse_shape(self) -> tuple[int, int]:
        """(height, width) of the coarsest level; even."""
        return self._shapes[-1]

    def reduce(self, infrared: Luma8, visible: Luma8) -> tuple[Short, Short]:
        """Both images' coarsest level, h x w in 1/32 of grey levels; valid until the next call."""
        for image, places in ((infrared, self._infrared), (visible, self._visible)):
            _widen(image, places[0])
            for larger, smaller in pairwise(places):
                cv2.resize(larger, smaller.shape[::-1], dst=smaller, interpolation=cv2.INTER_AREA)
        return self._infrared[-1], self._visible[-1]

    def add_detail(self, fused: Maps, gates: Maps, gains: Maps) -> Luma8:
        """The fused image (HxW uint8, the caller's; its memory is recycled) of the pair that :meth:`reduce` saw last.

        Takes what the coarse network gives: the fused coarse image (h x w), gates (levels x h x w) and gains
        (levels x h/2 x w/2), as float32 in the network's own units, finest level first.
        """
        result = self._coarse(fused)
        fixed_gates, fixed_gains = self._gates(gates), self._gains(gains)
        image: Luma8 = self._fused.take(self._size)
        for at in reversed(range(self._visible_levels + self._levels)):
            level = at - self._visible_levels
            if level < 0:
                np.subtract(result, self._visible[at + 1], out=result)  # this level's result is not read again
            for top in range(0, self._shapes[at][0], BAND):
                rows = slice(top, min(top + BAND, self._shapes[at][0]))
                detail = self._visible[at][rows]
                if level >= 0:
                    detail = self._detail(level, rows, fixed_gates[level], fixed_gains[level])
                part = self._enlarged(result, at, rows, 0)
                np.add(part, detail, out=part if at == 0 else self._result[at][rows])
                if at == 0:
                    self._write(part, image[rows])
            result = self._result[at]
        return image

    @staticmethod
    def _write(part: Short, place: Luma8) -> None:
        """Rows of the result as grey levels; those that only pad the image are left out."""
        height, width = place.shape
        if height:
            np.clip(part, 0, COARSE_SCALE, out=part)
            cv2.convertScaleAbs(part[:height, :width], dst=place, alpha=1 / GREY)

    def _detail(self, level: int, rows: slice, gate: Short, gain: Short) -> Short:
        """``gain * (dv + z * (di - dv))`` for some rows of a finer level; valid until the next call."""
        at = self._visible_levels + level
        di = self._enlarged(self._infrared[level + 1], at, rows, 1)
        np.subtract(self._infrared[level][rows], di, out=di)
        dv = self._enlarged(self._visible[at + 1], at, rows, 2)
        np.subtract(self._visible[at][rows], dv, out=dv)
        z, work = self._plane(at, rows, 3), self._enlarged(gate, at, rows, 4)
        np.abs(di, out=z)
        np.subtract(di, dv, out=di)
        absolute = self._plane(at, rows, 0)
        np.abs(dv, out=absolute)
        np.subtract(z, absolute, out=z)
        cv2.addWeighted(z, self._slopes[level], work, 1.0, 0.0, dst=z)
        np.clip(z, 0, GATE, out=z)
        cv2.multiply(di, z, dst=di, scale=1 / GATE)
        np.add(dv, di, out=dv)
        weight = self._enlarged(gain, at, rows, 4)
        cv2.multiply(dv, weight, dst=dv, scale=1 / GAIN)
        return dv

    def _plane(self, at: int, rows: slice, index: int) -> Short:
        """One of the scratch planes, for ``rows`` of a level."""
        height, width = rows.stop - rows.start, self._shapes[at][1]
        return self._scratch[index, : height * width].reshape(height, width)

    def _enlarged(self, image: Short, at: int, rows: slice, index: int) -> Short:
        """``rows`` of an image enlarged to a level's size, in a scratch plane: as if all of it had been enlarged."""
        height, width = self._shapes[at]
        factor = height // image.shape[0]
        first = max(rows.start // factor - 1, 0)
        last = min(-(-rows.stop // factor) + 1, image.shape[0])
        count = (last - first) * factor
        place = self._scratch[index, : count * width].reshape(count, width)
        cv2.resize(image[first:last], (width, count), dst=place, interpolation=cv2.INTER_LINEAR)
        start = rows.start - first * factor
        return place[start : start + rows.stop - rows.start]


class _Fixed:
    """Float maps of one shape in fixed point, in buffers of its own."""

    def __init__(self, shape: tuple[int, ...], scale: int) -> None:
        self._scale = np.float32(scale)
        self._scaled, self._rounded = np.empty(shape, np.float32), np.empty(shape, np.int16)

    def __call__(self, maps: Maps) -> Short:
        """Rounded to whole units, int16; valid until the next call."""
        np.multiply(maps, self._scale, out=self._scaled)
        np.rint(self._scaled, out=self._scaled)
        np.copyto(self._rounded, self._scaled, casting="unsafe")
        return self._rounded


def _widen(image: Luma8, place: Short) -> None:
    height, width = image.shape
    np.left_shift(image, _FRACTION_BITS, out=place[:height, :width], dtype=np.int16)
    if width < place.shape[1]:
        place[:height, width:] = place[:height, width - 1 : width]
    if height < place.shape[0]:
        place[height:] = place[height - 1]
