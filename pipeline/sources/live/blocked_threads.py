"""Threads blocked in a network read that nothing can interrupt; the end of a run does not wait for them."""

from __future__ import annotations

import threading

_blocked: set[threading.Thread] = set()


def leave_behind(thread: threading.Thread) -> None:
    """Notes a thread that ends within its own timeout and is not joined."""
    _blocked.add(thread)


def threads_left_behind() -> list[str]:
    """Names of the threads left behind that have not ended; the exit of the interpreter would join them."""
    _blocked.difference_update([thread for thread in _blocked if not thread.is_alive()])
    return sorted(thread.name for thread in _blocked)
