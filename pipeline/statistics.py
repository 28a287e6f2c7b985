"""Counts and distributions of a run, in constant memory. The caller passes time in; CPU time is measured here."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from typing import Any

# buckets grow by 5 %: percentiles are accurate to 2.5 %, from 1 microsecond to 2 hours
_GROWTH = math.log(1.05)
_BUCKETS = int(math.log(7.2e12 / 1e3) / _GROWTH) + 2


class Distribution:
    """A histogram of durations in nanoseconds (absolute values): count, mean, min, max, percentiles."""

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0
        self._sum_ns = 0
        self.min_ns = 0
        self.max_ns = 0

    def add(self, value_ns: int) -> None:
        value_ns = abs(value_ns)
        bucket = int(math.log(value_ns / 1e3) / _GROWTH) + 1 if value_ns >= 1000 else 0
        self._buckets[min(bucket, _BUCKETS - 1)] += 1
        self.min_ns = value_ns if not self.count else min(self.min_ns, value_ns)
        self.max_ns = max(self.max_ns, value_ns)
        self.count += 1
        self._sum_ns += value_ns

    @property
    def mean_ns(self) -> float:
        return self._sum_ns / self.count if self.count else 0.0

    def percentile_ns(self, percent: float) -> float:
        """Accurate to 2.5 %; min and max are exact."""
        rank, seen = math.ceil(self.count * percent / 100), 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if count and seen >= rank:
                middle = 0.0 if bucket == 0 else 1e3 * math.exp((bucket - 0.5) * _GROWTH)
                return min(max(middle, self.min_ns), self.max_ns)
        return 0.0

    def as_ms(self) -> dict[str, float]:
        """``mean``, ``p50``, ``p95``, ``p99`` and ``max`` in milliseconds; empty without values."""
        if not self.count:
            return {}
        values = {
            "mean": self.mean_ns,
            **{f"p{p}": self.percentile_ns(p) for p in (50, 95, 99)},
            "max": self.max_ns,
        }
        return {name: round(value / 1e6, 3) for name, value in values.items()}


class RunStatistics:
    """Counters of one run; updated by the stages' threads, read by progress line, record and preview."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.read: Counter[str] = Counter()  # frames by band
        self.states: Counter[str] = Counter()  # pairs by state
        self.fused = 0
        self.skew = Distribution()
        self.latency = Distribution()
        self._stage_cpu_ns: Counter[str] = Counter()  # of threads that have ended
        self._cpu_clocks: dict[str, int] = {}  # of running threads
        self.warnings: list[str] = []

    def frame_read(self, band: str) -> None:
        with self._lock:
            self.read[band] += 1

    def pair_made(self, state: str, skew_ns: int | None) -> None:
        with self._lock:
            self.states[state] += 1
            if skew_ns is not None:
                self.skew.add(skew_ns)

    def pair_fused(self) -> None:
        with self._lock:
            self.fused += 1

    def frame_written(self, latency_ns: int) -> None:
        with self._lock:
            self.latency.add(latency_ns)

    def stage_started(self, stage: str) -> None:
        """Called by the stage's own thread: its CPU time is measured from now on."""
        clock_of = getattr(time, "pthread_getcpuclockid", None)  # macOS: known when the stage ends
        with self._lock:
            self._stage_cpu_ns[stage] += 0
            if clock_of is not None:
                self._cpu_clocks[stage] = clock_of(threading.get_ident())

    def stage_ended(self, stage: str) -> None:
        """The last call of the same thread: its CPU clock ends with it."""
        with self._lock:
            self._cpu_clocks.pop(stage, None)
            self._stage_cpu_ns[stage] += time.thread_time_ns()

    def _cpu_ns(self) -> dict[str, int]:
        """Requires the lock."""
        seen = dict(self._stage_cpu_ns)
        for stage, clock in self._cpu_clocks.items():
            seen[stage] += time.clock_gettime_ns(clock)
        return seen

    def warn(self, message: str) -> None:
        """Adds a warning unless it has been added before."""
        with self._lock:
            if message not in self.warnings:
                self.warnings.append(message)

    def snapshot(self) -> dict[str, Any]:
        """All counters as plain values."""
        with self._lock:
            return {
                "read": dict(self.read),
                "states": dict(self.states),
                "fused": self.fused,
                "skew_ms": self.skew.as_ms(),
                "latency_ms": self.latency.as_ms(),
                "stage_cpu_ns": self._cpu_ns(),
                "warnings": list(self.warnings),
            }
