"""Signal handlers for the length of a ``with`` block."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signal_handler(
    signals: Sequence[signal.Signals], handle: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handles ``signals`` with ``handle`` within the block, and as before after it.

    An ignored SIGHUP (nohup) stays ignored. Outside the main thread, which alone may install handlers, nothing changes.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in signals:
            # background jobs inherit SIGINT ignored; install the handler anyway
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
