"""Sums and distributions over the last seconds, in constant memory. Pure: the caller passes time in."""

from __future__ import annotations

import threading
from collections import deque

from fusepipe.core.units import S
from fusepipe.pipeline.measures.distribution import Distribution

RATE_WINDOW_NS = 10 * S
VALUES_WINDOW_NS = 60 * S
_PARTS = 20  # a window advances in steps of this part of it


MAX_PENDING = 256  # values that wait to be added: in one go they take a fraction of the time, since caches are warm


class RecentSum:
    """A sum over the last ``window_ns``, such as of frames; any thread.

    Values are only noted when they come and are added when the sum is read, or ``MAX_PENDING`` at a time.
    """

    def __init__(self, window_ns: int = RATE_WINDOW_NS) -> None:
        self._window_ns = window_ns
        self._step_ns = window_ns // _PARTS
        self._pending: deque[tuple[int, float]] = deque()  # time, amount; each of its operations is atomic
        self._parts: deque[tuple[int, float]] = deque(maxlen=_PARTS + 1)  # step number, sum within it
        self._first_ns: int | None = None
        self._lock = threading.Lock()

    def begin(self, now_ns: int) -> None:
        """Counting starts now rather than with the first value."""
        if self._first_ns is None:
            self.add(now_ns, 0)

    def add(self, now_ns: int, amount: float = 1) -> None:
        if self._first_ns is None:
            with self._lock:
                self._first_ns = now_ns if self._first_ns is None else self._first_ns
        self._pending.append((now_ns, amount))
        if len(self._pending) >= MAX_PENDING:
            with self._lock:
                self._add_pending()

    def _add_pending(self) -> None:
        """Adds what has come; locked."""
        while self._pending:
            now_ns, amount = self._pending.popleft()
            step = now_ns // self._step_ns
            if self._parts and self._parts[-1][0] >= step:
                last, total = self._parts.pop()
                self._parts.append((last, total + amount))
            else:
                self._parts.append((step, amount))

    def total(self, now_ns: int) -> float:
        """The sum over the window."""
        oldest = (now_ns - self._window_ns) // self._step_ns
        with self._lock:
            self._add_pending()
            return sum(amount for step, amount in self._parts if step > oldest)

    def per_s(self, now_ns: int) -> float:
        """The sum per second, over the window or the shorter time since the start; 0 before that."""
        if self._first_ns is None:
            return 0.0
        # the current step is not over, and the oldest one counts in full
        covered_ns = min(now_ns - self._first_ns, self._window_ns - self._step_ns + now_ns % self._step_ns)
        return self.total(now_ns) * S / max(covered_ns, self._step_ns)


class RecentDistribution:
    """The distribution of the durations of the last ``window_ns``, to a twentieth of it. Not thread-safe."""

    def __init__(self, window_ns: int = VALUES_WINDOW_NS) -> None:
        self._step_ns = window_ns // _PARTS
        self._parts: deque[tuple[int, Distribution]] = deque(maxlen=_PARTS)

    def add(self, now_ns: int, value_ns: int) -> None:
        step = now_ns // self._step_ns
        if not self._parts or self._parts[-1][0] < step:
            self._parts.append((step, Distribution()))
        self._parts[-1][1].add(value_ns)

    def over(self, now_ns: int) -> Distribution:
        """The values of the window as one distribution."""
        total, oldest = Distribution(), now_ns // self._step_ns - _PARTS
        for step, part in self._parts:
            if step > oldest:
                total.include(part)
        return total
