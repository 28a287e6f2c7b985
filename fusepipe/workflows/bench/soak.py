"""``fusepipe bench --soak``: the soak test. Many synthetic pairs through the pipeline into a sink that only counts.

Memory is the resident set of the process. Its slope is fitted over the last two thirds of the run: a leak of one small
object per pair shows, caches that fill at the start do not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusepipe.core.frames import Band
from fusepipe.pipeline.sinks.null import NullSink
from fusepipe.rig.api import Pipeline
from fusepipe.workflows.bench.clips import synthetic_url
from fusepipe.workflows.bench.throughput import BenchOptions

PROC_SELF = Path("/proc/self")
SAMPLE_S = 0.1
WARM_UP_PAIRS = 100
SETTLE_S = 1.0
SETTLE_STEP_S = 0.01

Sample = tuple[int, int]  # (pairs so far, resident KiB)


@dataclass(frozen=True, slots=True)
class Held:
    """Resources of the process; ``None`` where the system does not report them."""

    rss_kib: int | None
    threads: int | None
    descriptors: int | None


@dataclass(frozen=True, slots=True)
class SoakReport:
    """``slope_kib`` is resident KiB per 1000 pairs over the last two thirds; ``None`` where not known."""

    pairs: int
    seconds: float
    pairs_per_s: float
    engine: dict[str, Any]
    slope_kib: float | None
    samples: int
    before: Held
    after: Held
    finished: bool

    def as_json(self) -> dict[str, Any]:
        """A document of plain values."""
        return asdict(self)


def soak(options: BenchOptions) -> SoakReport:
    """Runs ``options.pairs`` pairs, or as many as the time limit allows, after a short warm-up run."""
    warm_up = _pipeline(options, WARM_UP_PAIRS)
    warm_up.run()
    before = held()
    pipeline = _pipeline(options, options.pairs)
    samples: list[Sample] = []
    pipeline.start()
    rounds = int(options.time_limit_s / SAMPLE_S)
    while not (done := pipeline.wait(SAMPLE_S)) and rounds > 0:
        rounds -= 1
        rss = held().rss_kib
        if rss is not None:
            samples.append((pipeline.statistics.fused, rss))
    if not done:
        pipeline.drain()
        pipeline.wait()
    pipeline.raise_error()
    report = pipeline.report()
    return SoakReport(
        pairs=sum(report.pairs.values()),
        seconds=report.seconds,
        pairs_per_s=report.pairs_per_s,
        engine=report.engine,
        slope_kib=slope_kib_per_1000(samples),
        samples=len(samples),
        before=before,
        after=held_at_rest(before),
        finished=done,
    )


def _pipeline(options: BenchOptions, pairs: int) -> Pipeline:
    urls = [
        synthetic_url(band, size, pairs)
        for band, size in ((Band.INFRARED, options.infrared_size), (Band.VISIBLE, options.visible_size))
    ]
    return Pipeline(options.rig(urls[0], urls[1], []), sinks=[NullSink()])


def slope_kib_per_1000(samples: Sequence[Sample]) -> float | None:
    """Least-squares slope of the last two thirds, in KiB per 1000 pairs; ``None`` for too few samples."""
    tail = samples[len(samples) // 3 :]
    if len(tail) < 3:
        return None
    mean_x = sum(pairs for pairs, _ in tail) / len(tail)
    mean_y = sum(rss for _, rss in tail) / len(tail)
    spread = sum((pairs - mean_x) ** 2 for pairs, _ in tail)
    if spread == 0:
        return None
    return 1000 * sum((pairs - mean_x) * (rss - mean_y) for pairs, rss in tail) / spread


def held(proc: Path = PROC_SELF) -> Held:
    """Memory, threads (all of the process, not only Python's) and open descriptors now."""
    return Held(_rss_kib(proc), _entries(proc / "task"), _entries(proc / "fd"))


def held_at_rest(before: Held) -> Held:
    """As :func:`held`, once threads that were joined have left the system's list too, which takes them a moment."""
    now = held()
    for _ in range(round(SETTLE_S / SETTLE_STEP_S)):
        if now.threads is None or before.threads is None or now.threads <= before.threads:
            break
        time.sleep(SETTLE_STEP_S)
        now = held()
    return now


def _rss_kib(proc: Path) -> int | None:
    try:
        pages = int((proc / "statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def _entries(folder: Path) -> int | None:
    try:
        return sum(1 for _ in folder.iterdir())
    except OSError:
        return None
