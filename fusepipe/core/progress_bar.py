"""The progress of work, on standard error: a bar or the time on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

PLAIN_S = 10.0  # seconds between two plain lines, and before the first
TERMINAL_S = 1.0  # seconds between two updates of the time of a step on a terminal


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


class ProgressSteps:
    """A line for each step of work whose steps cannot say how far they are, with the time that each takes.

    On a terminal the time is that of now; elsewhere a plain line has it every ``plain_s`` seconds. Call it with the
    name of the step that begins; steps are called within the ``with`` block. ``clock`` gives seconds.
    """

    def __init__(
        self, *, enabled: bool = True, plain_s: float = PLAIN_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._enabled = enabled and sys.stderr is not None
        self._terminal = self._enabled and sys.stderr.isatty()
        self._interval_s = TERMINAL_S if self._terminal else plain_s
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show_time, name="progress-steps")
        self._step, self._began_s = "", 0.0

    def __enter__(self) -> Self:
        if self._enabled:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enabled:
            self._ended.set()
            self._thread.join()
            self._end_line()

    def __call__(self, step: str) -> None:
        if not self._enabled:
            return
        with self._lock:
            self._end_line()
            self._step, self._began_s = step, self._clock()
            self._write(f"{step} ..." if self._terminal else f"{step} ...\n")

    def _end_line(self) -> None:
        if self._terminal and self._step:
            self._write("\n")

    def _show_time(self) -> None:
        while not self._ended.wait(self._interval_s):
            with self._lock:
                passed_s = self._clock() - self._began_s
                if self._step and passed_s >= self._interval_s:
                    passed = clock_time(passed_s)
                    self._write(
                        f"\r{self._step} ... {passed}" if self._terminal else f"{self._step}: {passed} so far\n"
                    )

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
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
