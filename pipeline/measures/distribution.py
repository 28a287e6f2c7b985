"""Distributions of durations in constant memory: percentiles for people, cumulative buckets for Prometheus. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

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

    def include(self, other: Distribution) -> None:
        """Adds the values of another distribution."""
        if not other.count:
            return
        self._buckets = [mine + theirs for mine, theirs in zip(self._buckets, other._buckets, strict=True)]
        self.min_ns = other.min_ns if not self.count else min(self.min_ns, other.min_ns)
        self.max_ns = max(self.max_ns, other.max_ns)
        self.count += other.count
        self._sum_ns += other._sum_ns


class Histogram:
    """Counts of durations up to fixed bounds, which only ever grow: what Prometheus calls a histogram."""

    def __init__(self, bounds_ms: Sequence[float]) -> None:
        self._bounds_ms = tuple(bounds_ms)
        self._counts = [0] * (len(self._bounds_ms) + 1)
        self._sum_ns = 0

    def add(self, value_ns: int) -> None:
        """The size counts: negative values are taken as positive ones."""
        self._counts[bisect_left(self._bounds_ms, abs(value_ns) / 1e6)] += 1
        self._sum_ns += abs(value_ns)

    def as_record(self) -> dict[str, object]:
        """``buckets``: [upper bound in seconds, cumulative count], the last bound being ``None``; ``sum_s``."""
        total, buckets = 0, []
        for bound_ms, count in zip((*self._bounds_ms, None), self._counts, strict=True):
            total += count
            buckets.append([None if bound_ms is None else bound_ms / 1e3, total])
        return {"buckets": buckets, "sum_s": self._sum_ns / 1e9}
