"""A training at the terminal: a progress bar on stderr, and signals that stop between two steps."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

Item = TypeVar("Item")

_SIGNALS_TO_ABORT = 3


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; outside the main thread, which alone may install handlers, no signal does.

    The third signal raises :class:`KeyboardInterrupt`: scoring and exporting do not check the event.
    """
    stop = threading.Event()
    signals = itertools.count(1)

    def handle(signum: int, frame: FrameType | None) -> None:
        stop.set()
        if next(signals) >= _SIGNALS_TO_ABORT:
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


def preparation_bar(what: str, items: Iterable[Item], count: int) -> Iterator[Item]:
    """The items, with their progress on stderr while they are made."""
    return iter(track(items, what, total=count, console=Console(stderr=True), transient=True))


@contextmanager
def progress_bar(steps: int, done: int = 0) -> Iterator[Callable[[int, float], None]]:
    """Shows steps, loss and the time remaining on stderr; yields ``report(step, loss)``."""
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
