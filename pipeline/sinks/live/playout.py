"""Playout times of a live output: when to send a frame, and its wall-clock capture time.

Frames of live cameras are sent immediately; their capture time is on the host's monotonic clock. Frames of recordings
are paced to the speed at which they were captured, counted from the first one. Pure: the caller passes the clocks in
and does the waiting.
"""

from __future__ import annotations

MAX_WAIT_NS = 2_000_000_000  # so that a slide show does not delay the end of a run


class PlayoutClock:
    """``live`` is false for recordings."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._shift_ns: int | None = 0 if live else None  # monotonic clock minus capture time

    def wait_ns(self, capture_ns: int, now_ns: int) -> int:
        """How long to wait before the frame is sent."""
        if self._live:
            return 0
        if self._shift_ns is None or not -MAX_WAIT_NS < capture_ns + self._shift_ns - now_ns <= MAX_WAIT_NS:
            self._shift_ns = now_ns - capture_ns  # the first frame, a gap, or late: restart the timeline here
        return max(0, capture_ns + self._shift_ns - now_ns)

    def unix_ns(self, capture_ns: int, now_ns: int, now_unix_ns: int) -> int:
        """The wall-clock time of the capture; for recordings, of the playout."""
        return now_unix_ns - (now_ns - (capture_ns + (self._shift_ns or 0)))
