"""Fused frames to a live H.264 stream, shared by the sinks that serve and push."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from fusepipe.core.frames import FusedFrame
from fusepipe.pipeline.encoding.h264 import AccessUnit
from fusepipe.pipeline.encoding.live_encoder import LiveEncoder, LiveVideoOptions
from fusepipe.pipeline.servers.rtsp.sdp import Description
from fusepipe.pipeline.sinks.live.playout import PlayoutClock


class Outlet(Protocol):
    """Where access units are published; no method blocks."""

    @property
    def described(self) -> bool:
        """Whether a unit has been published, so that its parameters are known."""

    @property
    def watched(self) -> bool:
        """Whether anyone receives what is published."""

    def wants_key(self, now_ns: int) -> bool:
        """Whether a receiver needs a key frame."""

    def publish(self, unit: AccessUnit, description: Description, unix_ns: int) -> None:
        """``unix_ns`` is the wall-clock time of the unit's capture."""


class EncodedStream:
    """Encodes for one outlet, only while it is watched; used by one thread."""

    def __init__(self, name: str, options: LiveVideoOptions, *, fps: float | None, live: bool) -> None:
        self._name = name
        self._fps = fps
        self._encoder = LiveEncoder(options, fps=fps)
        self._playout = PlayoutClock(live=live)
        self._wake = threading.Event()
        self.frames = self.bytes = 0

    def write(self, frame: FusedFrame, outlet: Outlet) -> None:
        """Frames of recordings are paced to real time. Raises :class:`SinkError`."""
        self._wake.wait(self._playout.wait_ns(frame.capture_ns, time.monotonic_ns()) / 1e9)
        self.frames += 1
        # the first frame is always encoded: SDP needs its parameter sets
        if not outlet.watched and outlet.described:
            return
        now_ns = time.monotonic_ns()
        unit = self._encoder.encode(frame, key=outlet.wants_key(now_ns))
        self.bytes += unit.size_bytes
        description = Description(self._name, *self._encoder.parameters, *self._encoder.size, self._fps)
        outlet.publish(unit, description, self._playout.unix_ns(frame.capture_ns, now_ns, time.time_ns()))

    def close(self) -> None:
        self._encoder.close()
