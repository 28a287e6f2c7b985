"""What a person at the terminal has of a training run: a progress line, and Ctrl-C that leaves a checkpoint."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_PATIENCE = 3


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; only the main thread may change handlers.

    The third signal raises :class:`KeyboardInterrupt`: scoring and exporting do not look at the event.
    """
    stop = threading.Event()
    signals = itertools.count(1)

    def handle(signum: int, frame: FrameType | None) -> None:
        stop.set()
        if next(signals) >= _PATIENCE:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_line(steps: int, done: int = 0) -> Iterator[Callable[[int, float], None]]:
    """A bar on stderr; yields ``report(step, loss)``."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as line:
        task = line.add_task("train", total=steps, completed=done, loss=float("nan"))
        yield lambda step, loss: line.update(task, completed=step, loss=loss)
