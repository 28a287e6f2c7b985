"""Recycled arrays of the hot path: an image gets the memory of an earlier one that nobody refers to any more.

A new image of some megabytes is memory that the system has to map and clear page by page, which costs more than many of
the operations that fill it. Nothing has to be given back: an array is free once its last reference, view or memoryview
is gone. CPython counts these references exactly; where it does not (:data:`COUNTED` is false), arrays are new.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MAX_KEPT = 24
"""Arrays of one size that a pool keeps; a run with more of them under way gets new ones."""

_Key = tuple[tuple[int, ...], str]


class BufferPool:
    """Arrays for one user, such as a stage: for any thread; the arrays may be passed on and kept by anyone.

    A change of size drops the arrays of other sizes that are free. ``made`` counts the arrays that were allocated.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[_Key, list[NDArray[Any]]] = {}
        self._last: _Key | None = None
        self.made = 0

    def take(self, shape: tuple[int, ...], kind: DTypeLike = np.uint8) -> NDArray[Any]:
        """A writeable, C-contiguous array of ``shape`` with arbitrary content, that nobody else refers to."""
        key = (shape, np.dtype(kind).str)
        with self._lock:
            if key != self._last:
                self._last = key
                self._trim(key)
            kept = self._kept.setdefault(key, [])
            for index in range(len(kept)):
                if _references(kept, index) == _FREE:
                    return kept[index]
            self.made += 1
            fresh = np.empty(shape, kind)
            if COUNTED and len(kept) < MAX_KEPT:
                kept.append(fresh)
            return fresh

    def _trim(self, wanted: _Key) -> None:
        for key in [key for key in self._kept if key != wanted]:
            kept = self._kept[key]
            self._kept[key] = [kept[i] for i in range(len(kept)) if _references(kept, i) != _FREE]
            if not self._kept[key]:
                del self._kept[key]


def _references(kept: list[NDArray[Any]], index: int) -> int:
    count: Callable[[object], int] = sys.getrefcount
    return count(kept[index])


_FREE = _references([np.empty(1)], 0)
"""What :func:`_references` counts for an array that only its pool refers to."""


def _counts_views() -> bool:
    """Whether a view raises the count, and its end lowers it again."""
    kept = [np.empty(2)]
    view = kept[0][1:]
    during = _references(kept, 0)
    del view
    return during > _FREE and _references(kept, 0) == _FREE


COUNTED = getattr(sys, "_is_gil_enabled", lambda: True)() and _counts_views()
"""Whether this Python counts references, and at once."""
