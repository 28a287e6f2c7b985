"""The progress of work, on standard error: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

PLAIN_S = 10.0  # seconds between two plain lines, and before the first


class ProgressBar:
    """Count, percent and time left on one line; ``NO_COLOR`` is honoured.

    Without a terminal it prints a plain line every ``PLAIN_S`` seconds, so that nobody has to wonder in a log whether
    anything happens; short work prints none. ``clock`` gives seconds.
    """

    def __init__(self, what: str, *, enabled: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._bar: Any = None
        self._plain = enabled and sys.stderr is not None and not sys.stderr.isatty()
        self._started_s = self._printed_s = clock()
        if enabled and sys.stderr is not None and sys.stderr.isatty():
            self._bar = _terminal_bar()
            self._task = self._bar.add_task(what, total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, done: int, total: int, what: str | None = None) -> None:
        """``done`` of ``total``; ``what`` replaces the text beside the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=what or self._what)
        elif self._plain and (now_s := self._clock()) - self._printed_s >= PLAIN_S:
            self._printed_s = now_s
            sys.stderr.write(plain_line(what or self._what, done, total, now_s - self._started_s) + "\n")
            sys.stderr.flush()


def plain_line(what: str, done: int, total: int, seconds: float) -> str:
    """``images: 40 of 100, 40 %, 1:30 left``; the time left is in proportion to the ``seconds`` so far."""
    left = f", {clock_time(seconds * (total - done) / done)} left" if 0 < done < total else ""
    return f"{what}: {done} of {total}, {100 * done // max(1, total)} %{left}"


def clock_time(seconds: float) -> str:
    """``0:05``, ``12:40``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _terminal_bar() -> Any:
    """Columns that fit one line of 80 characters: the text gives way."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    class Left(TimeRemainingColumn):
        """The time left, or the time so far while the total is not known."""

        def render(self, task: Any) -> Any:
            return super().render(task) if task.total else TimeElapsedColumn().render(task)

    columns = (
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        Left(compact=True),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
