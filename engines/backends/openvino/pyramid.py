"""The finer levels of a pyramid network (:mod:`fusepipe.train.networks.pyramid`) on a CPU, in 16-bit integers.

The network fuses the coarsest level; a finer level adds the sources' detail by gates and gains that the network gives.
In a runtime's graph the finer levels are a dozen element-wise operations in fp32, each a pass over main memory. Here
they are OpenCV's and NumPy's 16-bit passes over bands of rows in recycled buffers, equal to the graph within one grey
level.

Fixed point: grey levels in 1/32, gates in 1/4096, gains in 1/8192.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.buffers import BufferPool
from fusepipe.core.frames import Luma8

Short = NDArray[np.int16]
Maps = NDArray[np.float32]

_NOTHING: Short = np.empty((0, 0), np.int16)

BAND = 576
"""Rows of a finer level that are computed together, so that large pictures need little scratch memory. A multiple of
how much a level is larger than the maps that the network gives; smaller bands spend more on the rows beside them."""
_SCRATCH, _VISIBLE_SCRATCH = 5, 2  # planes of a band; of a level of the visible image alone
GREY = 32
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

    The finest level is read from the images themselves, which are kept from :meth:`reduce` to :meth:`add_detail`.

    ``height`` and ``width`` are the visible image's. ``sharpness`` is the network's, finest level first.
    ``visible_levels``: how many times the visible image is twice as large as the infrared one (sides rounded up); those
    levels take the visible image's detail as it is. Sides that are not whole multiples are padded with the edge.
    ``scratch`` is memory that pyramids have in turn, as each needs it only during a call.
    """

    def __init__(
        self,
        height: int,
        width: int,
        sharpness: Sequence[float],
        visible_levels: int = 0,
        scratch: BufferPool | None = None,
    ) -> None:
        levels = len(sharpness)
        self._size = (height, width)
        self._visible_levels = visible_levels
        coarse = coarse_shape(self._size, levels, visible_levels)
        self._shapes = [(coarse[0] << k, coarse[1] << k) for k in reversed(range(visible_levels + levels + 1))]
        self._levels = levels
        # slope of z against the details' difference: gates are in 1/4096, details in 1/32 of a grey level
        self._slopes = [float(k) * GATE / COARSE_SCALE for k in sharpness]
        none = _NOTHING  # the finest level is never in memory as a whole
        self._visible = [none, *(np.empty(shape, np.int16) for shape in self._shapes[1:])]
        self._infrared = [none, *(np.empty(shape, np.int16) for shape in self._shapes[visible_levels + 1 :])]
        self._images: tuple[Luma8, Luma8] | None = None
        self._coarse = _Fixed(coarse, COARSE_SCALE)
        self._gates = _Fixed((levels, *coarse), GATE)
        self._gains = _Fixed((levels, coarse[0] // 2, coarse[1] // 2), GAIN)
        self._fused = BufferPool()
        between = self._shapes[1 : visible_levels + levels]
        self._result = [none, *(np.empty(shape, np.int16) for shape in between)]
        self._pool = scratch or BufferPool()
        self._scratch: Short = _NOTHING
        # samples that a call needs
        self.scratch_px = max(
            (_VISIBLE_SCRATCH if at < visible_levels else _SCRATCH) * self._band_px(at)
            for at in range(visible_levels + levels)
        )

    def _band_px(self, at: int) -> int:
        """Pixels that a band of a level takes, with the rows beside it that interpolation needs."""
        height, width = self._shapes[at]
        margin = 2 if at < self._visible_levels else 2 * (self._shapes[at][0] // (self._shapes[-1][0] // 2))
        return (min(BAND, height) + 2 * margin) * width

    def _bands(self, at: int) -> Iterator[slice]:
        height = self._shapes[at][0]
        return (slice(top, min(top + BAND, height)) for top in range(0, height, BAND))

    @contextmanager
    def _scratch_memory(self) -> Iterator[None]:
        self._scratch = self._pool.take((self.scratch_px,), np.int16)
        try:
            yield
        finally:
            self._scratch = _NOTHING

    @property
    def coarse_shape(self) -> tuple[int, int]:
        """(height, width) of the coarsest level; even."""
        return self._shapes[-1]

    def reduce(self, infrared: Luma8, visible: Luma8) -> tuple[Short, Short]:
        """Both images' coarsest level, h x w in 1/32 of grey levels; valid until the next call.

        Do not change the images before :meth:`add_detail` has returned.
        """
        self._images = (infrared, visible)
        for image, at, places in ((infrared, self._visible_levels, self._infrared), (visible, 0, self._visible)):
            with self._scratch_memory():
                for rows in self._bands(at):
                    smaller = places[1][rows.start // 2 : rows.stop // 2]
                    larger = self._widened(image, at, rows, 0)
                    cv2.resize(larger, smaller.shape[::-1], dst=smaller, interpolation=cv2.INTER_AREA)
            for larger, smaller in pairwise(places[1:]):
                cv2.resize(larger, smaller.shape[::-1], dst=smaller, interpolation=cv2.INTER_AREA)
        return self._infrared[-1], self._visible[-1]

    def add_detail(self, fused: Maps, gates: Maps, gains: Maps) -> Luma8:
        """The fused image (HxW uint8, the caller's; its memory is recycled) of the pair that :meth:`reduce` saw last.

        Takes what the coarse network gives: the fused coarse image (h x w), gates (levels x h x w) and gains
        (levels x h/2 x w/2), as float32 in the network's own units, finest level first.
        """
        assert self._images is not None  # reduce comes first
        coarse = self._coarse(fused)
        fixed_gates, fixed_gains = self._gates(gates), self._gains(gains)
        image: Luma8 = self._fused.take(self._size)
        with self._scratch_memory():
            self._add_levels(coarse, self._images, (fixed_gates, fixed_gains), image)
        self._images = None
        return image

    def _add_levels(self, result: Short, images: tuple[Luma8, Luma8], maps: tuple[Short, Short], fused: Luma8) -> None:
        gates, gains = maps
        for at in reversed(range(self._visible_levels + self._levels)):
            level = at - self._visible_levels
            if level < 0:
                np.subtract(result, self._visible[at + 1], out=result)  # this level's result is not read again
            for rows in self._bands(at):
                if level >= 0:
                    detail = self._detail(level, rows, images, gates[level], gains[level])
                else:
                    detail = self._visible[at][rows] if at else self._widened(images[1], 0, rows, 1)
                part = self._enlarged(result, at, rows, 0)
                np.add(part, detail, out=part if at == 0 else self._result[at][rows])
                if at == 0:
                    self._write(part, fused[rows])
            result = self._result[at]

    @staticmethod
    def _write(part: Short, place: Luma8) -> None:
        """Rows of the result as grey levels; those that only pad the image are left out."""
        height, width = place.shape
        if height:
            cv2.threshold(part, 0, 0, cv2.THRESH_TOZERO, dst=part)  # the next step takes absolute values
            cv2.convertScaleAbs(part[:height, :width], dst=place, alpha=1 / GREY)

    def _detail(self, level: int, rows: slice, images: tuple[Luma8, Luma8], gate: Short, gain: Short) -> Short:
        """``gain * (dv + z * (di - dv))`` for some rows of a finer level; valid until the next call."""
        at = self._visible_levels + level
        di = self._enlarged(self._infrared[level + 1], at, rows, 1)
        infrared = self._infrared[level][rows] if level else self._widened(images[0], at, rows, 3)
        np.subtract(infrared, di, out=di)
        dv = self._enlarged(self._visible[at + 1], at, rows, 2)
        visible = self._visible[at][rows] if at else self._widened(images[1], 0, rows, 3)
        np.subtract(visible, dv, out=dv)
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

    def _widened(self, image: Luma8, at: int, rows: slice, index: int) -> Short:
        """``rows`` of an image in 1/32 of grey levels, padded to a level's size with the edge, in a scratch plane."""
        place = self._plane(at, rows, index)
        height, width = image.shape
        inside = max(min(rows.stop, height) - rows.start, 0)
        np.copyto(place[:inside, :width], image[rows])
        place[inside:, :width] = image[-1]
        if width < place.shape[1]:
            place[:, width:] = place[:, width - 1 : width]
        np.multiply(place, np.int16(GREY), out=place)  # faster than a shift
        return place

    def _plane(self, at: int, rows: slice, index: int) -> Short:
        """One of the scratch planes, for ``rows`` of a level."""
        return self._scratch_rows(at, rows.stop - rows.start, index)

    def _scratch_rows(self, at: int, count: int, index: int) -> Short:
        width, start = self._shapes[at][1], index * self._band_px(at)
        return self._scratch[start : start + count * width].reshape(count, width)

    def _enlarged(self, image: Short, at: int, rows: slice, index: int) -> Short:
        """``rows`` of an image enlarged to a level's size, in a scratch plane: as if all of it had been enlarged."""
        height, width = self._shapes[at]
        factor = height // image.shape[0]
        first = max(rows.start // factor - 1, 0)
        last = min(-(-rows.stop // factor) + 1, image.shape[0])
        count = (last - first) * factor
        place = self._scratch_rows(at, count, index)
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
