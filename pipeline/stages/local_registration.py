"""Local alignment in a running rig: what the registration stage does on top of the warp where it is switched on.

Deterministic for recordings: it is measured in the stage itself, on pairs sampled by their capture times.
"""

from __future__ import annotations

import cv2
import numpy as np

from fusepipe.calibration.parallax.displaced_warp import DisplacedWarp
from fusepipe.calibration.parallax.local_alignment import LocalAlignment
from fusepipe.core.frames import FramePair, PairState, Pixels, Warp

INTERVAL_NS = 60_000_000  # of capture time between two pairs that are compared: every second one at 25 and 30 Hz
STEADY_INTERVAL_NS = 120_000_000  # where the last one changed nothing
FIRST_ROUNDS = 3  # comparisons of the first pair of a scene, which has no earlier one to start from
DEFAULT_LIMIT = 1 / 80  # of the visible width
SAME_WARP_PX = 0.5  # a correction of drift moves the map by less, and keeps the field


class LocalRegistration:
    """Moves the registered infrared image locally; ``limit_px`` in visible pixels, default an 80th of the width.

    Used by the registration stage alone.
    """

    def __init__(self, limit_px: float | None = None) -> None:
        self._limit_px = limit_px
        self._alignment = LocalAlignment(0.0)
        self._warp: DisplacedWarp | None = None
        self._last_ns: int | None = None
        self._interval_ns = INTERVAL_NS

    def apply(self, pair: FramePair, warp: Warp, visible_width: int) -> Pixels:
        """The infrared plane of a pair in the visible geometry, moved by the field; ``visible_width`` in pixels."""
        assert pair.infrared is not None
        pixels = pair.infrared.luma.pixels
        self._alignment.limit = DEFAULT_LIMIT if self._limit_px is None else self._limit_px / visible_width
        displaced = self._displaced(warp, pixels)
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
        changed = new_scene
        for _ in range(FIRST_ROUNDS if new_scene else 1):
            infrared = displaced.shrunk(pair.infrared.luma.pixels)
            changed |= displaced.displace(self._alignment.compare(infrared, displaced.seen))
        self._interval_ns = INTERVAL_NS if changed else STEADY_INTERVAL_NS
