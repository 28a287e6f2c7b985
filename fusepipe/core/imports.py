"""Importing many modules at once without searching for garbage: there is none among modules that are being loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Pauses Python's cyclic garbage collector inside, for imports and for the start of a command.

    The collector runs by the number of objects that were made, and goes through all of them: about a tenth of the time
    in which a picture is fused. Nested or in several threads, the outermost one that found it enabled enables it again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
