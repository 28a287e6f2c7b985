"""Recycled arrays: never one that somebody still refers to, by whatever kind of reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusepipe.core.buffers import COUNTED, MAX_KEPT, BufferPool
from fusepipe.core.frames import Plane

pytestmark = pytest.mark.skipif(not COUNTED, reason="this Python does not count references at once")
SHAPE = (6, 8)


def test_memory_that_nobody_refers_to_is_taken_again() -> None:
    pool = BufferPool()
    first = pool.take(SHAPE)
    address = first.ctypes.data
    del first
    assert pool.take(SHAPE).ctypes.data == address
    assert pool.made == 1


@pytest.mark.parametrize(
    "keep",
    [
        lambda array: array,
        lambda array: array[1:, ::2],
        lambda array: array[2:].T[1:],
        memoryview,
        Plane,
        lambda array: array.reshape(-1),
        lambda array: np.frombuffer(memoryview(array), np.uint8),
    ],
)
def test_memory_that_is_referred_to_is_left_alone(keep: Callable[[Any], Any]) -> None:
    pool = BufferPool()
    array = pool.take(SHAPE)
    address = array.ctypes.data
    kept = keep(array)
    del array
    assert pool.take(SHAPE).ctypes.data != address
    del kept
    assert address in {pool.take(SHAPE).ctypes.data, pool.take(SHAPE).ctypes.data}


def test_types_and_sizes_are_apart_and_free_arrays_of_another_size_are_dropped() -> None:
    pool = BufferPool()
    held = pool.take(SHAPE)
    counts = pool.take(SHAPE, np.uint16)
    assert counts.dtype == np.uint16 and not np.shares_memory(held, counts)
    del counts
    assert pool.take((3, 3)).shape == (3, 3)
    pool.take(SHAPE, np.uint16)
    assert pool.made == 4, "the array of counts was dropped when another size was asked for"


def test_a_pool_keeps_a_bounded_number() -> None:
    pool = BufferPool()
    held = [pool.take(SHAPE) for _ in range(MAX_KEPT + 5)]
    del held
    again = [pool.take(SHAPE) for _ in range(MAX_KEPT)]
    assert pool.made == MAX_KEPT + 5
    assert len({array.ctypes.data for array in again}) == MAX_KEPT
