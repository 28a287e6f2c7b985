"""A training at the terminal: a progress bar on stderr, and signals that stop between two steps."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from fusepipe.core.progress_bar import ProgressBar
from fusepipe.core.signal_handlers import signal_handler

Item = TypeVar("Item")

_SIGNALS_TO_ABORT = 3


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; outside the main thread, which alone may install handlers, no signal does.

    The third signal raises :class:`KeyboardInterrupt`: scoring and exporting do not check the event. A run of a rig
    counts its signals instead (:class:`fusepipe.rig.process.signals.StopSignals`): the second aborts it, and SIGHUP
    reloads.
    """
    stop = threading.Event()
    signals = itertools.count(1)

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        if next(signals) >= _SIGNALS_TO_ABORT:
            raise KeyboardInterrupt

    with signal_handler((signal.SIGINT, signal.SIGTERM), handle):
        yield stop


def preparation_bar(what: str, items: Iterable[Item], count: int) -> Iterator[Item]:
    """The items, with their progress on stderr while they are made."""
    with ProgressBar(what) as bar:
        for done, item in enumerate(items, 1):
            bar.step(done, count)
            yield item


@contextmanager
def progress_bar(steps: int, done: int = 0) -> Iterator[Callable[[int, float], None]]:
    """Shows steps, loss and the time remaining on stderr; yields ``report(step, loss)``."""
    with ProgressBar("training") as bar:
        bar.step(done, steps)
        yield lambda step, loss: bar.step(step, steps, f"training, loss {loss:.3f}")
