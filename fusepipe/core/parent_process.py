"""Ends a process with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(parent_id: int) -> None:
    """Has the system send SIGTERM to this process when its parent, the process of this id, ends in whatever way.

    On Linux; elsewhere only a parent that has ended already is noticed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent_id:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGTERM)
