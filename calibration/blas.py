"""OpenCV's calibrations with one thread of the BLAS library that its wheel brings."""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def one_blas_thread() -> threadpool_limits:
    """A context for calls that decompose matrices of some hundred columns.

    OpenBLAS's threads wait for each other in a loop that only yields the processor. That brings nothing at this size,
    and where other work keeps the cores busy, as a rig that runs meanwhile does, a calibration of 15 views takes two
    minutes and not twenty seconds (of two cores, both busy).
    """
    return threadpool_limits(limits=1, user_api="blas")
