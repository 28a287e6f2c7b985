"""The progress lines of a run, one a rig: refreshed in place on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fusepipe.core.progress_bar import clock_time
from fusepipe.rig.report.dropped import dropped_texts

if TYPE_CHECKING:
    from fusepipe.rig.api import Pipeline

SEPARATOR = " | "
PLAIN_S = 30.0  # seconds between two plain lines of a recording; live rigs have their event log


class ProgressLine:
    """One line a rig, from ``lines``: as many of their parts as fit the terminal, never wrapped.

    ``plain`` gives the lines for a standard error that is no terminal. ``clock`` gives seconds.
    """

    def __init__(
        self,
        lines: Callable[[], list[str]],
        *,
        enabled: bool,
        plain: Callable[[], list[str]] = list,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lines, self._plain_lines, self._clock = lines, plain, clock
        self._printed_s = clock()
        self._live: Any = None
        self._plain = enabled and sys.stderr is not None and not sys.stderr.isatty()
        if enabled and sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self) -> None:
        if self._live is not None:
            from rich.text import Text

            width = self._live.console.width
            lines = [fitted(text, width) for text in self._lines()]
            self._live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"))
        elif self._plain and (now_s := self._clock()) - self._printed_s >= PLAIN_S:
            self._printed_s = now_s
            for text in self._plain_lines():
                sys.stderr.write(text + "\n")
            sys.stderr.flush()


def fitted(text: str, width: int) -> str:
    """The parts of a progress line that fit ``width`` characters, the first in any case."""
    parts = text.split(SEPARATOR)
    while len(parts) > 1 and len(SEPARATOR.join(parts)) > width:
        parts.pop()
    return SEPARATOR.join(parts)


def line(pipeline: Pipeline) -> str:
    """One running pipeline, what matters most first: pairs, percent and time left of recordings, pairs/s, trouble by
    reason; latency percentiles of live rigs, skew, queue depths."""
    report = pipeline.report()
    recent = pipeline.statistics.recent(time.monotonic_ns())
    done = sum(report.pairs.values())
    total = total_pairs(pipeline)
    parts = [f"{report.rig}: {done} pairs" if total is None else f"{report.rig}: {progress_text(done, total, recent)}"]
    parts.append(f"{recent['fused_per_s']:.1f}/s")
    parts += [f"{count} {state}" for state, count in report.pairs.items() if state != "fused"]
    parts += [f"{count} {reason}" for reason, count in report.skipped.items()]
    parts += [f"dropped {text}" for text in dropped_texts(report.dropped, report.sinks)]
    if report.live is not None and (latency := recent["latency_ms"]):  # of recordings it is the time in queues
        parts.append("latency {p50:.0f}/{p95:.0f}/{p99:.0f} ms".format(**latency))
    if skew := recent["skew_ms"]:
        parts.append(f"skew p95 {skew['p95']:.1f} ms")
    depths = pipeline.graph.depths()
    parts.append("queues " + " ".join(f"{name}:{depth}" for name, depth in depths.items()))
    return SEPARATOR.join(parts)


def plain_lines(pipelines: Sequence[Pipeline]) -> list[str]:
    """One line for each running recording, without what changes from moment to moment."""
    lines = []
    for pipeline in pipelines:
        if pipeline.live:
            continue
        done, total = pipeline.statistics.fused, total_pairs(pipeline)
        recent = pipeline.statistics.recent(time.monotonic_ns())
        text = f"{done} pairs" if total is None else progress_text(done, total, recent)
        lines.append(f"{pipeline.rig.name}: {text}, {recent['fused_per_s']:.1f}/s")
    return lines


def progress_text(done: int, total: int, recent: dict[str, Any]) -> str:
    """``120/250 pairs 48% 0:05 left``; without the time while no pair comes."""
    rate = recent["fused_per_s"]
    left = f" {clock_time((total - done) / rate)} left" if rate and done < total else ""
    return f"{done}/{total} pairs {min(100, 100 * done // max(1, total))}%{left}"


def total_pairs(pipeline: Pipeline) -> int | None:
    """The pairs that a recording will give, about: one for each frame of the reference; ``None`` where not known."""
    opened = pipeline.opened
    if opened.live:
        return pipeline.max_pairs
    of_reference = opened.infrared if opened.rig.sync.reference == "infrared" else opened.visible
    info = of_reference.info
    limits = [info.frames, pipeline.max_pairs]
    if pipeline.duration_s is not None and info.fps:
        limits.append(round(pipeline.duration_s * info.fps))
    known = [limit for limit in limits if limit is not None]
    return min(known, default=None)
