"""Bounded waits."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], timeout_s: float = 30.0, why: Callable[[], str] = str) -> None:
    """Returns once ``condition()`` is true; fails with the text of ``why()`` after the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"did not happen in {timeout_s:g} s {why()}"
        time.sleep(0.01)
