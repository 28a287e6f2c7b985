"""The degradation state of a live rig: fused, held, single or no signal. Pure; time is passed in.

Each pair has its own state. The state of the *rig* is the best state of any pair within the grace time: it improves
immediately and degrades only when the better state has not occurred for that long. So a 9 Hz infrared camera with a 30
Hz visible one (fused, held, held, fused, …) is a fused rig and does not flood the log.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fusepipe.core.frames import Band, PairState

GRACE_NS = 500_000_000
MAX_CHANGES = 100  # kept in the record; all are counted

_BEST_FIRST = (PairState.FUSED, PairState.INTERPOLATED, PairState.HELD, PairState.SINGLE, PairState.NO_SIGNAL)


@dataclass(frozen=True, slots=True)
class StateChange:
    """The rig's state changed at ``at_ns`` (host's monotonic clock); ``before`` is ``None`` for the first.

    ``only`` is the camera that is shown alone, of the state single.
    """

    at_ns: int
    before: PairState | None
    after: PairState
    lasted_ns: int
    only: Band | None = None

    def __str__(self) -> str:
        """For the log, such as ``single, visible only (was fused for 3.6 s)``."""
        after = str(self.after) if self.only is None else f"{self.after}, {self.only} only"
        return after if self.before is None else f"{after} (was {self.before} for {self.lasted_ns / 1e9:.1f} s)"


class Degradation:
    """The state machine of a rig: :meth:`pair` for each pair, :meth:`tick` as time passes."""

    def __init__(self, grace_ns: int = GRACE_NS) -> None:
        self._grace_ns = grace_ns
        self._seen_ns: dict[PairState, int] = {}
        self._since_ns = self._now_ns = 0
        self._lead: Band | None = None
        self.state: PairState | None = None
        self.changes: list[StateChange] = []
        self.change_count = 0
        self._time_ns: Counter[PairState] = Counter()

    def pair(self, state: PairState, now_ns: int, lead: Band | None = None) -> StateChange | None:
        """Takes the state of an output pair; returns a change of the rig's state, if any.

        ``lead`` is the camera whose frame leads it: of a single pair, the only one.
        """
        self._seen_ns[state] = now_ns
        if state is PairState.SINGLE:
            self._lead = lead
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> StateChange | None:
        """Takes the current time: a state that has not occurred for the grace time ends."""
        self._now_ns = max(self._now_ns, now_ns)
        if not self._seen_ns:
            return None
        if self.state is PairState.FUSED and now_ns - self._seen_ns[self.state] <= self._grace_ns:
            return None  # the best state of all: the usual case, for each frame
        fresh = [s for s in _BEST_FIRST if s in self._seen_ns and now_ns - self._seen_ns[s] <= self._grace_ns]
        # without any recent pair the output itself is late: keep the latest state
        after = fresh[0] if fresh else max(self._seen_ns, key=lambda s: self._seen_ns[s])
        if after is self.state:
            return None
        only = self._lead if after is PairState.SINGLE else None
        change = StateChange(now_ns, self.state, after, now_ns - self._since_ns if self.state else 0, only)
        if self.state is not None:
            self._time_ns[self.state] += change.lasted_ns
        self.state, self._since_ns = after, now_ns
        self.change_count += 1
        if len(self.changes) < MAX_CHANGES:
            self.changes.append(change)
        return change

    def time_s(self) -> dict[str, float]:
        """Seconds in each state so far."""
        total = Counter(self._time_ns)
        if self.state is not None:
            total[self.state] += self._now_ns - self._since_ns
        return {str(state): round(total[state] / 1e9, 3) for state in _BEST_FIRST if state in total}
