"""The progress line of a run, refreshed in place; shown only where standard error is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from fusepipe.rig.api import Pipeline


class ProgressLine:
    """One line a rig, from ``lines``: see :func:`line`."""

    def __init__(self, lines: Callable[[], list[str]], *, enabled: bool) -> None:
        self._lines = lines
        self._live: Any = None
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

            self._live.update(Text("\n".join(self._lines())))


def line(pipeline: Pipeline) -> str:
    """One running pipeline: pairs, pairs/s, skips and drops by reason, queue depths, latency percentiles."""
    report = pipeline.report()
    recent = pipeline.statistics.recent(time.monotonic_ns())
    parts = [f"{report.rig}: {sum(report.pairs.values())} pairs", f"{recent['fused_per_s']:.1f}/s"]
    parts += [f"{count} {state}" for state, count in report.pairs.items() if state != "fused"]
    parts += [f"{count} {reason}" for reason, count in report.skipped.items()]
    parts += [f"dropped {count} at {box}" for box, count in report.dropped.items()]
    if skew := recent["skew_ms"]:
        parts.append(f"skew p95 {skew['p95']:.1f} ms")
    if latency := recent["latency_ms"]:
        parts.append("latency {p50:.0f}/{p95:.0f}/{p99:.0f} ms".format(**latency))
    depths = pipeline.graph.depths()
    parts.append("queues " + " ".join(f"{name}:{depth}" for name, depth in depths.items()))
    return " | ".join(parts)
