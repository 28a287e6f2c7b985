"""Detects a camera that repeats an image with new timestamps, as in a flat-field correction of a thermal one. Pure.

Sensor noise makes any two exposures differ, so an image of which every sample equals an earlier one was not newly
exposed. An encoder may repeat a static image too, by skipping all blocks of a frame, so several repeats in a row are
required, and two stages distinguished: an image is *frozen* when it repeats, and *proven* frozen when also a key frame,
which encodes the whole image with its noise, repeats it, or when it repeats for longer than encoders leave out key
frames. Between two equal key frames an encoder may vary a frozen image a little; such frames are repeats too.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from fusepipe.core.frames import Frame, Original, Pixels

MIN_REPEATS = 3
MIN_FREEZE_NS = 150_000_000
PROOF_NS = 10_000_000_000  # a longer freeze needs no key frame as its proof
SAMPLES = 4096
# The first frames after a key frame refine the image; the next key frame of a frozen camera begins the same series.
HISTORY = 32
CODING_NOISE = 10  # levels that a sample of a frozen image may differ by between two equal key frames


def luma_samples(frame: Frame) -> Pixels:
    """About ``SAMPLES`` samples of the luma, on a regular grid."""
    pixels = frame.luma.pixels
    step = max(1, int((pixels.size / SAMPLES) ** 0.5))
    return pixels[::step, ::step]


def luma_checksum(frame: Frame) -> int:
    """A checksum of :func:`luma_samples`."""
    return zlib.crc32(luma_samples(frame).tobytes())


@dataclass(frozen=True, slots=True)
class _Sighting:
    """When an image was first seen."""

    frame: Original
    arrival_ns: int


def _sighting(frame: Frame) -> _Sighting:
    return _Sighting(Original(frame.index, frame.capture_ns), frame.arrival_ns)


class _KeyFrames:
    """Compares the key frames of a stream that has other frames in between."""

    def __init__(self) -> None:
        self._last: tuple[Pixels, _Sighting] | None = None  # the latest key frame with a new image
        self._between = self._moved = self._equal = False  # of the frames since that key frame

    def push(self, frame: Frame) -> _Sighting | None:
        """The key frame whose image all key frames since, and this frame, repeat; ``None`` without such a repeat."""
        samples, is_key_frame = luma_samples(frame), frame.stamp is None or frame.stamp.key_frame
        limit = 0 if is_key_frame else CODING_NOISE
        same = self._last is not None and _differ_by(samples, self._last[0]) <= limit
        if is_key_frame:
            self._equal = same and self._between and not self._moved
            self._between = self._moved = False
            if not self._equal:
                self._last = samples.copy(), _sighting(frame)
        else:
            self._between = True
            self._moved |= not same
            self._equal &= same
        return self._last[1] if self._equal and self._last is not None else None


def _differ_by(one: Pixels, other: Pixels) -> int:
    """The largest absolute difference of two images' samples; infinite for images of different sizes."""
    if one.shape != other.shape:
        return 1 << 16
    return int(np.abs(one.astype(np.int32) - other).max())


class FreezeDetector:
    """Detects and counts freezes of one camera; ``longest_ns`` is the longest so far, ``frozen`` the current state.

    The current image has repeated for ``frozen_ns``, the one before it did for ``last_ns``.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[int, _Sighting] = OrderedDict()  # the latest distinct images by checksum
        self._last: int | None = None
        self._key_frames = _KeyFrames()
        self._first = _Sighting(Original(0, 0), 0)  # of the current image
        self._repeats = 0
        self.frozen = self._key_frame_repeated = False
        self.frozen_ns = 0
        self.last_ns = 0
        self.freezes = 0
        self.longest_ns = 0

    def push(self, frame: Frame) -> bool:
        """Takes the next frame of the camera; whether its image is frozen."""
        checksum = luma_checksum(frame)
        key_frame = self._key_frames.push(frame)
        if key_frame is not None and not self.frozen:
            self._first, self._repeats = key_frame, MIN_REPEATS
        repeated = key_frame is not None or checksum == self._last or (self.frozen and checksum in self._seen)
        self._last = checksum
        if not repeated:
            self._begin(checksum, frame)
            return False
        self._repeats += 1
        self._key_frame_repeated |= key_frame is not None or frame.stamp is None or frame.stamp.key_frame
        self.frozen_ns = frame.arrival_ns - self._first.arrival_ns
        if self._repeats >= MIN_REPEATS and self.frozen_ns >= MIN_FREEZE_NS:
            self.freezes += not self.frozen
            self.frozen = True
            self.longest_ns = max(self.longest_ns, self.frozen_ns)
        return self.frozen

    def _begin(self, checksum: int, frame: Frame) -> None:
        """Takes a new image, which may have been seen before if the camera plays a recording in a loop."""
        self._first = _sighting(frame)
        self._seen.pop(checksum, None)
        self._seen[checksum] = self._first
        while len(self._seen) > HISTORY:
            self._seen.popitem(last=False)
        self._repeats, self.last_ns, self.frozen_ns = 0, self.frozen_ns, 0
        self.frozen = self._key_frame_repeated = False

    @property
    def original(self) -> Original | None:
        """The frame whose image a frozen camera repeats; ``None`` while it is not frozen."""
        return self._first.frame if self.frozen else None

    def proven_for(self, limit_ns: int) -> bool:
        """Whether the camera is proven to have been frozen for longer than ``limit_ns``."""
        proven = self._key_frame_repeated or self.frozen_ns > PROOF_NS
        return self.frozen and proven and self.frozen_ns > limit_ns
