"""Notices when a thermal camera repeats its picture under fresh timestamps: a flat-field correction.

Pure. Sensor noise makes two exposures differ; a picture of which every sample equals the one before was not
exposed anew. Encoders may repeat a quiet picture for a frame or two, so a few repeats in a row are wanted.
"""

from __future__ import annotations

import zlib

from fusepipe.core.frames import Frame

REPEATS = 3
LEAST_NS = 150_000_000
SAMPLES = 4096


def fingerprint(frame: Frame) -> int:
    """A checksum of a few thousand samples of the luma."""
    pixels = frame.luma.pixels
    step = max(1, int((pixels.size / SAMPLES) ** 0.5))
    return zlib.crc32(pixels[::step, ::step].tobytes())


class FreezeDetector:
    """``True`` from :meth:`push` while the picture stands."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._repeats = 0
        self._since_ns = 0
        self._frozen = False
        self.freezes = 0
        self.longest_ns = 0

    def push(self, frame: Frame) -> bool:
        """Takes the next frame of the camera."""
        seen = fingerprint(frame)
        if seen != self._last:
            self._last, self._repeats, self._since_ns, self._frozen = seen, 0, frame.arrival_ns, False
            return False
        self._repeats += 1
        stood_ns = frame.arrival_ns - self._since_ns
        if self._repeats >= REPEATS and stood_ns >= LEAST_NS:
            self.freezes += not self._frozen
            self._frozen = True
            self.longest_ns = max(self.longest_ns, stood_ns)
        return self._frozen
