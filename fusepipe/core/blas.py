"""One thread of the BLAS libraries that the wheels of OpenCV and NumPy bring, for work on small matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

P = ParamSpec("P")
R = TypeVar("R")


def one_blas_thread(solve: Callable[P, R]) -> Callable[P, R]:
    """The same function, for one that multiplies or decomposes matrices of some hundred columns.

    OpenBLAS's threads wait for each other in a loop that only yields the processor. That brings nothing at this size:
    while other programs keep both of two cores busy, a calibration of 15 views takes two minutes instead of twenty
    seconds, and JSRSD seven times the CPU time.
    """

    @wraps(solve)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with threadpool_limits(limits=1, user_api="blas"):
            return solve(*args, **kwargs)

    return limited
