"""Limits how many threads of a process do image arithmetic in many short calls at the same time.

The finer levels of a pyramid network are some sixty calls of NumPy and OpenCV for a pair. Each gives up Python's
interpreter lock and takes it again; while the stages of several rigs do that at once, most of these calls wait for the
lock, and each wait is a switch of threads that costs as much as the call. Eight rigs of 320x240 in one process so took
half as much CPU time again for a pair as with this gate (docs/measurements/fleet.md).

Calls on large images are long, so there the lock is not what a thread waits for; and a thread that held the gate for
tens of milliseconds would delay the rigs that have small ones. They pass.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fusepipe.core.machine import usable_cores

SMALL_PX = 640 * 480
"""Images of up to so many pixels pass one by one: some milliseconds each."""


class ComputeGate:
    """Lets ``threads`` threads compute small images at the same time; one that waits is woken in its turn."""

    def __init__(self, threads: int) -> None:
        self._small = threading.Semaphore(threads)

    @contextmanager
    def passed(self, pixels: int) -> Iterator[None]:
        """Within this, the thread computes an image of so many pixels; it must not wait for another thread."""
        if pixels > SMALL_PX:
            yield
            return
        with self._small:
            yield


GATE = ComputeGate(max(1, int(usable_cores() / 2)))
"""Of this process. Half of the cores: the rest decodes and runs engines, which need no interpreter lock."""
