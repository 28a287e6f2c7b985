"""One thread of the BLAS library that OpenCV's wheel brings, while OpenCV calibrates."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

P = ParamSpec("P")
R = TypeVar("R")


def one_blas_thread(solve: Callable[P, R]) -> Callable[P, R]:
    """The same function, for one that decomposes matrices of some hundred columns.

    OpenBLAS's threads wait for each other in a loop that only yields the processor. That brings nothing at this size:
    while a running rig keeps both of two cores busy, a calibration of 15 views takes two minutes instead of twenty
    seconds.
    """

    @wraps(solve)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with threadpool_limits(limits=1, user_api="blas"):
            return solve(*args, **kwargs)

    return limited
