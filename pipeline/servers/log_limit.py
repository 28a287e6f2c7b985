"""Log lines that a peer can provoke: at most one per kind and interval, with the number of those left out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

INTERVAL_S = 1.0


class LogLimit:
    """Logs the first message of a ``kind`` immediately, then at most one per ``interval_s``. For one thread."""

    def __init__(
        self, log: logging.Logger, *, interval_s: float = INTERVAL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._interval_s = interval_s
        self._clock = clock
        self._last: dict[str, tuple[float, int]] = {}  # when a line of this kind was logged, and how many were not

    def info(self, kind: str, message: str, *values: object) -> None:
        self._write(logging.INFO, kind, message, values)

    def warning(self, kind: str, message: str, *values: object) -> None:
        self._write(logging.WARNING, kind, message, values)

    def error(self, kind: str, message: str, *values: object, error: BaseException | None = None) -> None:
        """``error`` is logged with its traceback: for defects, not for what a peer sent."""
        self._write(logging.ERROR, kind, message, values, error)

    def _write(
        self, level: int, kind: str, message: str, values: tuple[object, ...], error: BaseException | None = None
    ) -> None:
        now_s = self._clock()
        logged_s, left_out = self._last.get(kind, (now_s - self._interval_s, 0))
        if now_s - logged_s < self._interval_s:
            self._last[kind] = logged_s, left_out + 1
            return
        self._last[kind] = now_s, 0
        if left_out:
            message, values = f"{message} (and %d more since the last such line)", (*values, left_out)
        self._log.log(level, message, *values, exc_info=error)
