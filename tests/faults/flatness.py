"""Evaluation of a soak test: straight lines fitted to samples, and leaked threads and descriptors."""

from __future__ import annotations

import statistics
import sys
import threading
from collections.abc import Sequence
from itertools import combinations

from fusepipe.workflows.bench.soak import Held

LATENCY = "latency, ms"

# What a fitted line may rise by over its two thirds. Memory moves by some MiB as the pools of FFmpeg and of the
# allocator fill with each frame size; a camera or client that connects has descriptors and a thread more for a
# moment; latency has some milliseconds of whatever else the machine does.
BOUNDS = {"memory, MiB": 16.0, "threads": 2.0, "descriptors": 4.0, LATENCY: 50.0}
# Of a run under five minutes, in which pools still fill and a single fault or a busy machine bends the line.
SHORT_S = 300.0
SHORT_BOUNDS = {"memory, MiB": 32.0, "threads": 2.0, "descriptors": 8.0, LATENCY: 250.0}


Series = dict[str, list[tuple[float, float]]]  # name -> (x, value)


def rise(points: Sequence[tuple[float, float]], *, robust: bool = False) -> float:
    """The rise of the line fitted to the last two thirds, from their first to their last point.

    The least-squares line; ``robust``: the median slope between any two points (Theil-Sen), which is robust to moments
    in which the machine had no CPU time for the rig.
    """
    tail = points[len(points) // 3 :]
    length = tail[-1][0] - tail[0][0]
    if robust:
        thin = tail[:: max(1, len(tail) // 300)]
        return (
            statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(thin, 2) if b[0] > a[0]) * length
        )
    mean_x = statistics.fmean(x for x, _ in tail)
    mean_y = statistics.fmean(y for _, y in tail)
    spread = sum((x - mean_x) ** 2 for x, _ in tail)
    return sum((x - mean_x) * (y - mean_y) for x, y in tail) / spread * length if spread else 0.0


def note(series: Series, x: float, now: Held) -> None:
    known = {
        "memory, MiB": None if now.rss_kib is None else now.rss_kib / 1024,
        "threads": now.threads,
        "descriptors": now.descriptors,
    }
    for name, value in known.items():
        if value is not None:
            series.setdefault(name, []).append((x, float(value)))


def judge(series: Series, bounds: dict[str, float], per: str, scale: float) -> bool:
    """Prints the table; returns whether everything is flat."""
    flat = True
    say(f"{'':14} {'after a third':>13} {'at the end':>11} {f'slope, per {per}':>18} {'rise':>7} {'bound':>6}")
    for name, points in series.items():
        if len(points) < 9:
            say(f"{name:14} only {len(points)} samples: run longer")
            flat = False
            continue
        tail = points[len(points) // 3 :]
        grown = rise(points, robust=name == LATENCY)
        slope = grown / (tail[-1][0] - tail[0][0]) * scale
        held_to = grown <= bounds[name]
        verdict = "flat" if held_to else "NOT FLAT"
        say(
            f"{name:14} {tail[0][1]:13.1f} {tail[-1][1]:11.1f} {slope:+18.2f} {grown:+7.2f} "
            f"{bounds[name]:6.1f}  {verdict}"
        )
        flat &= held_to
    return flat


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def nothing_left(before: Held, after: Held, there: Sequence[threading.Thread]) -> bool:
    """Whether the rig released all threads and descriptors; prints the names of leaked Python threads.

    ``there`` are the threads that were alive before it.
    """
    ours = [thread.name for thread in threading.enumerate() if thread not in there]
    for name in ours:
        say(f"still there: thread {name}")
    grown = [
        name
        for name, was, now in (
            ("threads", before.threads, after.threads),
            ("descriptors", before.descriptors, after.descriptors),
        )
        if was is not None and now is not None and now > was
    ]
    for name in grown:
        say(f"more {name} after the run than before")
    return not ours and not grown
