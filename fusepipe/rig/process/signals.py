"""SIGINT, SIGTERM and SIGHUP: counted for a clean shutdown or a reload instead of ending the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType
from typing import Self

from fusepipe.core.errors import Interrupted
from fusepipe.core.signal_handlers import signal_handler

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that still exists."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class StopSignals:
    """Counts SIGINT, SIGTERM and SIGHUP within a ``with`` block; ``raising`` turns one into an exception.

    The handler only counts: taking a lock in a signal handler can deadlock. During setup (inputs are opened,
    engines compiled) it raises :class:`Interrupted`, which ends those immediately.

    With ``reloads``, SIGHUP adds to ``reload_count`` instead, unless it was sent because the terminal closed.
    """

    def __init__(self, *, reloads: bool = False) -> None:
        self.count = 0
        self.only_sigterm = True  # every signal counted so far was one
        self.reload_count = 0
        self._reloads = reloads
        self._had_terminal = has_terminal()
        self._raising = False
        self._handlers = ExitStack()

    def __enter__(self) -> Self:
        self._handlers.enter_context(signal_handler(SIGNALS, self._handle))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handlers.close()

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within this, a signal raises :class:`Interrupted` in the main thread."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._reloads and (has_terminal() or not self._had_terminal):
            self.reload_count += 1
            return
        self.count += 1
        self.only_sigterm = self.only_sigterm and number == signal.SIGTERM
        if self._raising:
            raise Interrupted("interrupted before anything was written")
