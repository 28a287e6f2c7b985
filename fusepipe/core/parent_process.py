"""Ends a process with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(parent_id: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Has the system send a signal to this process when its parent, the process of this id, ends in whatever way.

    It comes when the thread that started this process ends, so start it from one that lives as long as the parent. On
    Linux; elsewhere only a parent that has ended already is noticed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent_id:  # it ended before the line above
        os.kill(os.getpid(), number)
