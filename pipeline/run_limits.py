"""When a run ends before its sources do, and which of its pairs are wanted. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Ends a run before its sources end: after ``max_pairs`` pairs or ``duration_ns`` of capture time.

    ``begin_ns`` and ``end_ns`` are capture times of the reference: pairs before the first are made, for what is held
    over, and left out; the first pair from the second on ends the run.
    """

    max_pairs: int | None = None
    duration_ns: int | None = None
    begin_ns: int | None = None
    end_ns: int | None = None

    def begun(self, capture_ns: int) -> bool:
        """Whether a pair of this capture time is not before the first one that is wanted."""
        return self.begin_ns is None or capture_ns >= self.begin_ns

    def ended(self, capture_ns: int) -> bool:
        """Whether a pair of this capture time is behind the last one that is wanted."""
        return self.end_ns is not None and capture_ns >= self.end_ns

    def reached(self, pairs: int, media_ns: int) -> bool:
        """Whether a run with ``pairs`` pairs over ``media_ns`` of capture time is complete."""
        return (self.max_pairs is not None and pairs >= self.max_pairs) or (
            self.duration_ns is not None and media_ns >= self.duration_ns
        )
