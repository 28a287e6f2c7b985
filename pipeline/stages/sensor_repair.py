"""Sensor repair: dead pixels, column and row stripes, shading of a thermal sensor, before registration.

What is wrong with a sensor stays where it is while the scene moves, so everything is estimated slowly, over many
images; the first one already gives an estimate. Counts stay counts: repaired planes have the type and depth they had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Frame, FramePair, Pixels, Plane
from fusepipe.core.gain_curves import noise_of
from fusepipe.core.units import MS
from fusepipe.pipeline.stages.dead_pixels import DeadPixelEstimate, DeadPixelFilling

INTERVAL_NS = 200 * MS  # between two estimates
FOLLOW = 0.1  # of the difference to a new estimate
STRIPE_LIMIT = 6.0  # standard deviations of the noise: larger steps are the scene's
STRIPE_MIN = 4.0  # counts, where the noise is not measurable
UPRIGHT = 0.9  # a mean this close to the limit is that of an upright object over the whole image
SMOOTH = 15  # pixels: stripes are narrower
SHADING_SHARE = 12  # of the shorter side: what is smaller in the flat field is no shading

Estimate = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RepairSettings:
    """``dead``: known dead pixels, (x, y) of the infrared image; ``find_dead``: others are found over time.

    ``shading``: what is too high at each pixel, HxW float32 of :func:`shading_of`, in counts of ``shading_bytes``.
    """

    dead: Sequence[tuple[int, int]] = ()
    find_dead: bool = False
    columns: bool = False
    rows: bool = False
    shading: Estimate | None = None
    shading_bytes: int = 2


class SensorRepair:
    """Repairs the infrared frame of each pair; a frame that is used again is not estimated from twice.

    ``warn`` is told where the shading does not fit the size or the depth of the images, which then keep theirs.
    """

    def __init__(self, settings: RepairSettings, warn: Callable[[str], None]) -> None:
        self._settings, self._warn = settings, warn
        self._shape = (0, 0)
        self._type: np.dtype[np.unsignedinteger] | None = None
        self._estimated_ns: int | None = None
        self._last: list[tuple[Frame, Frame]] = []  # the last two, as they came and repaired
        self._reset((0, 0))

    def _reset(self, shape: tuple[int, int]) -> None:
        """Starts again, as for a camera that changed its size or its bit depth."""
        shading = self._settings.shading
        if shading is not None and shape != (0, 0) and shading.shape != shape:
            (height, width), (rows, columns) = shading.shape, shape
            self._warn(f"infrared: repair.shading is of {width}x{height}, the images are {columns}x{rows}: not applied")
            shading = None
        given = self._settings.shading_bytes
        if shading is not None and self._type is not None and self._type.itemsize != given:
            bits, own = 8 * given, 8 * self._type.itemsize
            self._warn(f"infrared: repair.shading is of {bits}-bit counts, the images of {own}-bit ones: not applied")
            shading = None
        self._shading = shading
        self._shape = shape
        self._estimated_ns = None
        self._dead = DeadPixelEstimate(self._settings.dead, find=self._settings.find_dead)
        self._filling: DeadPixelFilling | None = None
        self._columns: Estimate | None = None
        self._rows: Estimate | None = None
        self._offsets: tuple[Pixels, Pixels] | None = None  # what is subtracted, and what is added

    @property
    def dead_pixels(self) -> int:
        """How many pixels are filled now."""
        return 0 if self._filling is None else len(self._filling.places)

    def saved(self) -> dict[str, Any]:
        """What the repair of the next frames depends on; :meth:`restore` takes it."""
        added, subtracted = (None, None) if self._offsets is None else self._offsets[::-1]
        return {
            "height": self._shape[0],
            "width": self._shape[1],
            "type": None if self._type is None else self._type.str,
            "estimated_ns": self._estimated_ns,
            "columns": self._columns,
            "rows": self._rows,
            "added": added,
            "subtracted": subtracted,
            "filled": None if self._filling is None else self._filling.places,
            **self._dead.saved(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Continues as the repair, of the same settings, that :meth:`saved` this."""
        self._type = None if saved["type"] is None else np.dtype(saved["type"])
        self._reset((saved["height"], saved["width"]))
        self._dead.restore(saved)
        self._estimated_ns, self._columns, self._rows = saved["estimated_ns"], saved["columns"], saved["rows"]
        self._offsets = None if saved["added"] is None else (saved["subtracted"], saved["added"])
        self._filling = None if saved["filled"] is None else DeadPixelFilling(saved["filled"], self._shape)

    def __call__(self, pair: FramePair) -> FramePair:
        if pair.infrared is None:
            return pair
        infrared, between = self._once(pair.infrared), pair.between
        if between is not None:
            between = replace(between, following=self._once(between.following))
        return replace(pair, infrared=infrared, between=between)

    def needs(self, frame: Frame) -> bool:
        """Whether a call would estimate from the image of this frame, of the same size and type as the last one."""
        due = self._estimated_ns is None or not 0 <= frame.capture_ns - self._estimated_ns < INTERVAL_NS
        return self._type is None or (due and frame.original is None)

    def _once(self, frame: Frame) -> Frame:
        """The repaired frame; the same object for a frame that is used again."""
        for given, repaired in self._last:
            if given is frame:
                return repaired
        repaired = self._repaired(frame)
        self._last = [*self._last[-1:], (frame, repaired)]
        return repaired

    def _repaired(self, frame: Frame) -> Frame:
        plane = frame.luma
        if plane.pixels.shape != self._shape or plane.pixels.dtype != self._type:
            self._type = plane.pixels.dtype
            self._reset((plane.height, plane.width))
        if self.needs(frame):
            self._estimate(plane)
            self._estimated_ns = frame.capture_ns
        pixels = plane.pixels
        if self._filling is not None:
            pixels = self._filling.fill(pixels)
        if self._offsets is not None:
            # saturating, and of one type: much faster than with signed offsets
            pixels = cast(Pixels, cv2.add(cv2.subtract(pixels, self._offsets[0]), self._offsets[1]))
            if plane.bit_depth not in (8, 16):
                pixels = cast(Pixels, np.minimum(pixels, np.uint16((1 << plane.bit_depth) - 1)))
        return replace(frame, planes=(replace(plane, pixels=pixels), *frame.chroma))

    def _estimate(self, plane: Plane) -> None:
        if self._dead.update(plane):
            self._filling = DeadPixelFilling(self._dead.places(self._shape), self._shape)
        settings, pixels = self._settings, plane.pixels
        if not (settings.columns or settings.rows or self._shading is not None):
            return
        if self._filling is not None:
            pixels = self._filling.fill(pixels)
        values = pixels.astype(np.float32)
        limit = max(STRIPE_MIN, STRIPE_LIMIT * noise_of(pixels[::4]))
        offsets = np.zeros(self._shape, np.float32) if self._shading is None else self._shading.copy()
        if settings.columns:
            self._columns = _followed(self._columns, stripes(values, limit))
            offsets += self._columns
        if settings.rows:
            self._rows = _followed(self._rows, stripes(np.ascontiguousarray(values.T), limit))
            offsets += self._rows[:, None]
        whole = np.rint(offsets)
        highest = np.iinfo(plane.pixels.dtype).max
        over, under = (np.clip(part, 0, highest).astype(plane.pixels.dtype) for part in (whole, -whole))
        self._offsets = cast(tuple[Pixels, Pixels], (over, under))


def stripes(values: Estimate, limit: float) -> Estimate:
    """How much each column of HxW counts is too high, float32 of W: its mean difference from the columns around it.

    Differences beyond ``limit`` count as ``limit``: they are edges of the scene, and have both signs.
    """
    difference = values - cv2.blur(values, (SMOOTH, 1))
    mean: Estimate = np.clip(difference, -limit, limit).mean(axis=0, dtype=np.float32)
    return np.where(np.abs(mean) < limit * UPRIGHT, mean, 0).astype(np.float32)  # else it is an upright object


def shading_of(flat_field: Pixels) -> Estimate:
    """What an image of a plain surface, HxW counts, is brighter than its own median: float32, smooth.

    One image of a scene cannot tell shading from the scene, so it is measured once, with a surface before the lens.
    """
    values = cv2.medianBlur(flat_field, 5).astype(np.float32)
    size = max(3, min(values.shape) // SHADING_SHARE) | 1
    smooth = cv2.GaussianBlur(values, (0, 0), size / 3)
    shading: Estimate = (smooth - np.median(smooth)).astype(np.float32)
    return shading


def _followed(before: Estimate | None, now: Estimate) -> Estimate:
    return now if before is None else before + np.float32(FOLLOW) * (now - before)
