"""Work on small matrices has one thread of each BLAS library, and leaves their number as it was."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from fusepipe.core.blas import one_blas_thread
from fusepipe.evaluation.baselines import jsrsd as module


def threads() -> set[int]:
    return {int(library["num_threads"]) for library in threadpool_info() if library["user_api"] == "blas"}


def test_one_thread_while_a_function_runs() -> None:
    @one_blas_thread
    def seen() -> set[int]:
        return threads()

    with threadpool_limits(limits=2, user_api="blas"):  # also on a machine of one core
        assert seen() == {1} and threads() == {2}


def test_jsrsd_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    during: list[set[int]] = []
    real = module.pursue

    def noted(*words: object, **named: object) -> object:
        during.append(threads())
        return real(*words, **named)

    monkeypatch.setattr(module, "pursue", noted)
    with threadpool_limits(limits=2, user_api="blas"):
        module.jsrsd(np.full((9, 9), 80, np.uint8), np.eye(9, dtype=np.uint8) * 90)
    assert during == [{1}]
