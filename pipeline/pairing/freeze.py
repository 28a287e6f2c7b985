"""Detects when a thermal camera repeats an image with new timestamps, as during a flat-field correction. Pure.

Sensor noise makes any two exposures differ, so an image of which every sample equals the previous one was not newly
exposed. Encoders may repeat a static image for a frame or two, so several repeats in a row are required.
"""

from __future__ import annotations

import zlib

from fusepipe.core.frames import Frame

MIN_REPEATS = 3
MIN_FREEZE_NS = 150_000_000
SAMPLES = 4096


def luma_checksum(frame: Frame) -> int:
    """A checksum of about ``SAMPLES`` samples of the luma."""
    pixels = frame.luma.pixels
    step = max(1, int((pixels.size / SAMPLES) ** 0.5))
    return zlib.crc32(pixels[::step, ::step].tobytes())


class FreezeDetector:
    """Counts freezes of one camera; ``longest_ns`` is the longest so far."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._repeats = 0
        self._since_ns = 0
        self._frozen = False
        self.freezes = 0
        self.longest_ns = 0

    def push(self, frame: Frame) -> bool:
        """Takes the next frame of the camera; whether its image is frozen."""
        seen = luma_checksum(frame)
        if seen != self._last:
            self._last, self._repeats, self._since_ns, self._frozen = seen, 0, frame.arrival_ns, False
            return False
        self._repeats += 1
        frozen_ns = frame.arrival_ns - self._since_ns
        if self._repeats >= MIN_REPEATS and frozen_ns >= MIN_FREEZE_NS:
            self.freezes += not self._frozen
            self._frozen = True
            self.longest_ns = max(self.longest_ns, frozen_ns)
        return self._frozen
