"""CPU time of one step of the pipeline on one core, which other programs change little."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import cv2
import numpy as np

from fusepipe.core import machine

Row = TypeVar("Row")

SIZES = ((640, 480), (1280, 1024))
"""(width, height) of the images that steps are measured with, unless another size is asked for."""
RUNS = 30


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV works in the calling thread alone: all of a step's CPU time is that thread's."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def least_and_median_ms(step: Callable[[], object], limit_s: float) -> tuple[float, float]:
    """Of up to ``RUNS`` calls: three at least, then as many as ``limit_s`` seconds of CPU time allow."""
    taken_ns: list[int] = []
    while len(taken_ns) < RUNS and (len(taken_ns) < 3 or sum(taken_ns) < limit_s * 1e9):
        begun_ns = time.thread_time_ns()
        step()
        taken_ns.append(time.thread_time_ns() - begun_ns)
    return round(min(taken_ns) / 1e6, 3), round(float(np.median(taken_ns)) / 1e6, 3)


@dataclass(frozen=True, slots=True)
class StepTable(Generic[Row]):
    """All steps of a kind on one machine."""

    cpu: str
    cores: float
    rows: list[Row]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def on_this_machine(rows: list[Row]) -> StepTable[Row]:
    """The table of what was measured here."""
    return StepTable(machine.processor().name, machine.usable_cores(), rows)
