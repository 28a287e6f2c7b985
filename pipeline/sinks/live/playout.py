"""The two times of a frame that a live output needs: when to show it, and its wall-clock time.

A camera's frames are due at once, and their capture time is on the host's monotonic clock. A recording's
are due at the speed at which it was captured, counted from its first frame: else a player would get an
hour of video in a minute. Pure; the caller passes the clocks in and does the waiting.
"""

from __future__ import annotations

LONGEST_WAIT_NS = 2_000_000_000  # a slide show need not hold up the end of a run


class PlayoutClock:
    """``live`` says which of the two it is."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._shift_ns: int | None = 0 if live else None  # monotonic clock minus capture time

    def wait_ns(self, capture_ns: int, now_ns: int) -> int:
        """How long to wait before the frame goes out."""
        if self._live:
            return 0
        if self._shift_ns is None or not -LONGEST_WAIT_NS < capture_ns + self._shift_ns - now_ns <= LONGEST_WAIT_NS:
            self._shift_ns = now_ns - capture_ns  # the first frame, a pause, or we are late: begin anew here
        return max(0, capture_ns + self._shift_ns - now_ns)

    def unix_ns(self, capture_ns: int, now_ns: int, now_unix_ns: int) -> int:
        """The wall-clock time of a capture; for a recording, of when it is played."""
        return now_unix_ns - (now_ns - (capture_ns + (self._shift_ns or 0)))
