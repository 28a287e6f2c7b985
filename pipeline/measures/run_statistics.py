"""Counts, rates and distributions of a run, in constant memory. The caller passes time in."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from typing import Any

from fusepipe.core.frames import PairState
from fusepipe.pipeline.measures.distribution import Distribution, Histogram
from fusepipe.pipeline.measures.recent import MAX_PENDING, RecentDistribution, RecentSum
from fusepipe.pipeline.measures.thread_cpu import FUSION_STAGE, StageCpu

LATENCY_BOUNDS_MS = (5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10000)
SKEW_BOUNDS_MS = (0.5, 1, 2, 5, 10, 15, 20, 30, 40, 60, 100, 200, 500)


class Durations:
    """One quantity of a run: since the start, over the last minute, and as a histogram. Not thread-safe.

    Values are only noted when they come and are added when they are read, or ``MAX_PENDING`` at a time.
    """

    def __init__(self, bounds_ms: tuple[float, ...]) -> None:
        self._all, self._recent, self._histogram = Distribution(), RecentDistribution(), Histogram(bounds_ms)
        self._pending: list[tuple[int, int]] = []

    def add(self, now_ns: int, value_ns: int) -> None:
        self._pending.append((now_ns, value_ns))
        if len(self._pending) >= MAX_PENDING:
            self._add_pending()

    def _add_pending(self) -> None:
        for now_ns, value_ns in self._pending:
            self._all.add(value_ns)
            self._recent.add(now_ns, value_ns)
            self._histogram.add(value_ns)
        self._pending.clear()

    def as_ms(self) -> dict[str, float]:
        """Since the start; see :meth:`Distribution.as_ms`."""
        self._add_pending()
        return self._all.as_ms()

    def recent_ms(self, now_ns: int) -> dict[str, float]:
        """Over the last minute."""
        self._add_pending()
        return self._recent.over(now_ns).as_ms()

    def histogram(self) -> dict[str, object]:
        self._add_pending()
        return self._histogram.as_record()


class StageLoad:
    """How long one stage works on a frame, over the last seconds."""

    def __init__(self) -> None:
        self._busy_ns, self._frames = RecentSum(), RecentSum()

    def add(self, now_ns: int, busy_ns: int, frames: int) -> None:
        """The stage was busy for ``busy_ns`` and completed ``frames`` in it."""
        self._busy_ns.add(now_ns, busy_ns)
        self._frames.add(now_ns, frames)

    def frame_ms(self, now_ns: int) -> float | None:
        """Mean time per frame; ``None`` without frames."""
        frames = self._frames.total(now_ns)
        return self._busy_ns.total(now_ns) / frames / 1e6 if frames else None


class BusyTime:
    """Measures how long one stage's thread is busy: always, except in ``with`` this, while it waits for a mailbox.

    Used by that thread alone; the statistics get the time when a frame is done.
    """

    def __init__(self, statistics: RunStatistics, stage: str) -> None:
        self._statistics, self._stage = statistics, stage
        self._since_ns = time.monotonic_ns()
        self._busy_ns = 0  # of the current frame, until the thread last waited

    def __enter__(self) -> None:
        self._busy_ns += time.monotonic_ns() - self._since_ns

    def __exit__(self, *_: object) -> None:
        self._since_ns = time.monotonic_ns()

    def completed(self) -> None:
        """A frame is done."""
        now_ns = time.monotonic_ns()
        self._statistics.stage_worked(self._stage, self._busy_ns + now_ns - self._since_ns, 1, now_ns)
        self._since_ns, self._busy_ns = now_ns, 0


class RunStatistics:
    """Counters of one run; updated by the stages' threads, read by progress line, report and preview.

    ``states`` counts the pairs that have left the fusion stage, by state: pairs that were dropped before it are not in
    it. ``paired`` counts the pairs that pairing has made.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.read: Counter[str] = Counter()  # frames by band
        self.states: Counter[str] = Counter()
        self.paired = 0
        self.skew = Durations(SKEW_BOUNDS_MS)
        self.latency = Durations(LATENCY_BOUNDS_MS)
        self._made, self._fused = RecentSum(), RecentSum()
        self._loads: defaultdict[str, StageLoad] = defaultdict(StageLoad)
        self._cpu = StageCpu()
        self.warnings: list[str] = []

    @property
    def fused(self) -> int:
        """Frames that have left the fusion stage."""
        return sum(self.states.values())

    def frame_read(self, band: str) -> None:
        with self._lock:
            self.read[band] += 1

    def pair_made(self, now_ns: int) -> None:
        with self._lock:
            self.paired += 1
        self._made.add(now_ns)
        self._fused.begin(now_ns)

    def pair_fused(self, state: str, skew_ns: int | None, now_ns: int) -> None:
        """A pair has left the fusion stage; ``skew_ns`` is ``None`` where not known.

        Only the skew of fused pairs counts: a held frame is older than any tolerance, which its state tells.
        """
        with self._lock:
            self.states[str(state)] += 1  # plain, for those who print it
            if skew_ns is not None and state == PairState.FUSED:
                self.skew.add(now_ns, skew_ns)
        self._fused.add(now_ns)

    def frame_written(self, latency_ns: int, now_ns: int) -> None:
        with self._lock:
            self.latency.add(now_ns, latency_ns)

    def stage_worked(self, stage: str, busy_ns: int, frames: int, now_ns: int) -> None:
        """A stage was busy for ``busy_ns`` and completed ``frames`` frames."""
        with self._lock:
            self._loads[stage].add(now_ns, busy_ns, frames)
        if stage == FUSION_STAGE:
            self._cpu.fusion_busy(busy_ns)

    def stage_started(self, stage: str) -> None:
        """Called by the stage's own thread, before it starts others: its CPU time is measured from now on."""
        self._cpu.started(stage)

    def stage_ended(self, stage: str) -> None:
        """The last call of the same thread."""
        self._cpu.ended(stage)

    def warn(self, message: str) -> None:
        """Adds a warning unless it has been added before."""
        with self._lock:
            if message not in self.warnings:
                self.warnings.append(message)

    def snapshot(self) -> dict[str, Any]:
        """All counters since the start, as plain values."""
        cpu_ns = self._cpu.cpu_ns()
        with self._lock:
            return {
                "read": dict(self.read),
                "states": dict(self.states),
                "paired": self.paired,
                "skew_ms": self.skew.as_ms(),
                "latency_ms": self.latency.as_ms(),
                "stage_cpu_ns": cpu_ns,
                "warnings": list(self.warnings),
            }

    def recent(self, now_ns: int) -> dict[str, Any]:
        """What the run does now: rates over ten seconds, latency and skew over a minute, and their histograms.

        ``paired_per_s`` is what the cameras deliver, ``fused_per_s`` what leaves the fusion stage; ``stage_ms`` is the
        mean time that a stage works on a frame.
        """
        with self._lock:
            loads = {stage: load.frame_ms(now_ns) for stage, load in self._loads.items()}
            return {
                "paired_per_s": round(self._made.per_s(now_ns), 2),
                "fused_per_s": round(self._fused.per_s(now_ns), 2),
                "latency_ms": self.latency.recent_ms(now_ns),
                "skew_ms": self.skew.recent_ms(now_ns),
                "stage_ms": {stage: round(value, 2) for stage, value in loads.items() if value is not None},
                "histograms": {"latency": self.latency.histogram(), "skew": self.skew.histogram()},
            }
