"""Local alignment in a running rig: what the registration stage does on top of the warp where it is switched on.

Deterministic for recordings: it is measured in the stage itself, on pairs sampled by their capture times.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from fusepipe.calibration.parallax.displaced_warp import DisplacedWarp
from fusepipe.calibration.parallax.local_alignment import Displacement, LocalAlignment
from fusepipe.core.frames import FramePair, PairState, Pixels, Size, Warp

INTERVAL_NS = 60_000_000  # of capture time between two pairs that are compared: every second one at 25 and 30 Hz
STEADY_INTERVAL_NS = 120_000_000  # where the last one changed nothing
PLANES_NS = 1_000_000_000  # between two times that the planes of the calibration are tried
FIRST_ROUNDS = 3  # comparisons of the first pair of a scene, which has no earlier one to start from
DEFAULT_LIMIT = 1 / 80  # of the visible width
SAME_WARP_PX = 0.5  # a correction of drift moves the map by less, and keeps the field


Planes = Callable[[Size, Size], list[Displacement]]
"""(infrared size, visible size) to the displacements of the rig's other planes."""


class LocalRegistration:
    """Moves the registered infrared image locally; ``limit_px`` in visible pixels, default an 80th of the width.

    With ``planes``, parts of the image that agree better with one of them start from there: at a new scene and every
    ``PLANES_NS``. The default of the limit is beyond their displacements then. Used by the registration stage alone.
    """

    def __init__(self, limit_px: float | None = None, planes: Planes | None = None) -> None:
        self._planes, self._displacements = planes, list[Displacement]()
        self._planes_ns: int | None = None
        self._limit_px = limit_px
        self._alignment = LocalAlignment(0.0)
        self._warp: DisplacedWarp | None = None
        self._last_ns: int | None = None
        self._interval_ns = INTERVAL_NS

    def apply(self, pair: FramePair, warp: Warp, visible_width: int) -> Pixels:
        """The infrared plane of a pair in the visible geometry, moved by the field; ``visible_width`` in pixels."""
        assert pair.infrared is not None
        pixels = pair.infrared.luma.pixels
        displaced = self._displaced(warp, pixels)
        farthest = max((float(np.hypot(*np.moveaxis(d, -1, 0)).max()) for d in self._displacements), default=0.0)
        default = DEFAULT_LIMIT + farthest
        self._alignment.limit = default if self._limit_px is None else self._limit_px / visible_width
        if self._due(pair):
            self._measure(pair, displaced)
        return displaced.apply(pixels)

    def _displaced(self, warp: Warp, pixels: Pixels) -> DisplacedWarp:
        if self._warp is None or self._warp.version != warp.version:
            new = DisplacedWarp(warp, (pixels.shape[1], pixels.shape[0]))
            if self._warp is None or new.moved_px(self._warp) > SAME_WARP_PX:
                self._alignment.reset()
            new.displace(self._alignment.displacement)
            self._warp = new
            if self._planes is not None:
                size = (pixels.shape[1], pixels.shape[0])
                self._displacements = self._planes(size, new.shrunk_size)
        return self._warp

    def _due(self, pair: FramePair) -> bool:
        if pair.state is not PairState.FUSED or pair.visible is None:
            return False
        time_ns = pair.lead.capture_ns
        if self._last_ns is not None and 0 <= time_ns - self._last_ns < self._interval_ns:
            return False
        self._last_ns = time_ns
        return True

    def _measure(self, pair: FramePair, displaced: DisplacedWarp) -> None:
        assert pair.infrared is not None and pair.visible is not None
        visible = cv2.resize(pair.visible.luma.pixels, displaced.shrunk_size, interpolation=cv2.INTER_AREA)
        new_scene = self._alignment.see(np.asarray(visible, np.float32))
        if new_scene:
            displaced.displace(None)
        changed = new_scene | self._start_from_planes(pair, displaced, new_scene)
        for _ in range(FIRST_ROUNDS if new_scene else 1):
            infrared = displaced.shrunk(pair.infrared.luma.pixels)
            changed |= displaced.displace(self._alignment.compare(infrared, displaced.seen))
        self._interval_ns = INTERVAL_NS if changed else STEADY_INTERVAL_NS

    def _start_from_planes(self, pair: FramePair, displaced: DisplacedWarp, new_scene: bool) -> bool:
        """Whether a part of the image was put onto another plane."""
        assert pair.infrared is not None
        now_ns = pair.lead.capture_ns
        last_ns = self._planes_ns
        if not self._displacements or not (new_scene or last_ns is None or abs(now_ns - last_ns) >= PLANES_NS):
            return False
        self._planes_ns = now_ns
        pixels, moved, now = pair.infrared.luma.pixels, False, None
        for displacement in self._displacements:
            if float(np.hypot(*np.moveaxis(displacement, -1, 0)).max()) > self._alignment.limit:
                continue
            if now is None:
                now = self._alignment.agreement(displaced.shrunk(pixels), displaced.seen)
            there = self._alignment.agreement(displaced.shrunk(pixels, displacement), displaced.seen)
            if self._alignment.start_from(displacement, there, now):
                displaced.displace(self._alignment.displacement)
                moved, now = True, None  # the field is another one
        return moved
