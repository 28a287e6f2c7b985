"""A fake of ``pycuda.driver`` with PyCUDA's rules for contexts and threads, from its ``src/cpp/cuda.hpp``.

Each thread has a stack of contexts. A thread that ends with contexts on it aborts the process (``aborted`` here).
``Context.pop`` fails after an error that leaves the CUDA context unusable, and then pops nothing. A context that is
garbage collected in the thread that retained it makes itself current there and releases the primary context, which is
destroyed with its last reference.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest

_OURS = "fusepipe.engines.backends.cuda.pycuda"


class PycudaError(Exception):
    """pycuda.driver.Error."""


class PycudaMemoryError(PycudaError):
    """pycuda.driver.MemoryError."""


class FakePycuda:
    """The state of the fake: one device. ``sticky`` makes all further calls fail, as after an illegal access."""

    def __init__(self) -> None:
        self.sticky = False
        self.references = 0
        self.destroyed = 0
        self.memory_bytes = 1 << 20
        self.stacks: dict[int, list[Context]] = {}
        self.dangling: set[int] = set()  # threads with a current context that was released
        self.stream_flags: list[int] = []
        self.event_flags: list[int] = []
        self.synchronised_by: list[str] = []

    @property
    def stack(self) -> list[Context]:
        """That of the calling thread."""
        return self.stacks.setdefault(threading.get_ident(), [])

    def current(self) -> Context | None:
        """The current context of the calling thread; invalid ones are popped."""
        while self.stack and not self.stack[-1].valid:
            self.stack.pop()
        return self.stack[-1] if self.stack else None

    def require_context(self) -> None:
        """Raises without a usable current context."""
        if self.current() is None:
            raise PycudaError(
                "explicit_context_dependent failed: invalid device context - no currently active context?"
            )
        self.check()

    def check(self) -> None:
        """Raises after an error that made the CUDA context unusable."""
        if self.sticky:
            raise PycudaError("an illegal memory access was encountered")

    @property
    def aborted(self) -> bool:
        """Whether the end of a thread has aborted the process; call it after the thread has ended."""
        return any(self.stacks.values())

    def driver(self) -> ModuleType:
        """The module ``pycuda.driver``."""
        module: Any = ModuleType("pycuda.driver")
        fake = self

        class BoundStream(Stream):
            def __init__(self, flags: int = 0) -> None:
                super().__init__(fake, flags)

        class BoundEvent(Event):
            def __init__(self, flags: int = 0) -> None:
                super().__init__(fake, flags)

        class Device:
            def __init__(self, ordinal: int) -> None:
                self.ordinal = ordinal

            @staticmethod
            def count() -> int:
                return 1

            def name(self) -> str:
                return "Fake GPU"

            def compute_capability(self) -> tuple[int, int]:
                return 8, 9

            def retain_primary_context(self) -> Context:
                return Context(fake)

        class Flags:
            BLOCKING_SYNC, DISABLE_TIMING = 1, 2

        module.Error, module.MemoryError = PycudaError, PycudaMemoryError
        module.init, module.Device, module.event_flags = lambda: None, Device, Flags
        module.get_driver_version, module.get_version = lambda: 13000, lambda: (13, 0, 0)
        module.Stream, module.Event = BoundStream, BoundEvent
        module.mem_alloc, module.pagelocked_empty = self._mem_alloc, self._pagelocked_empty
        module.memcpy_htod_async = module.memcpy_dtoh_async = lambda *arguments: self.require_context()
        return module  # type: ignore[no-any-return]

    def _mem_alloc(self, size_bytes: int) -> Allocation:
        self.require_context()
        if size_bytes > self.memory_bytes:
            raise PycudaMemoryError("cuMemAlloc failed: out of memory")
        return Allocation(self)

    def _pagelocked_empty(self, size_bytes: int, kind: type) -> Any:
        self.require_context()
        return np.zeros(size_bytes, kind).view(PinnedBytes)[:]


class PinnedBytes(np.ndarray[Any, np.dtype[np.uint8]]):
    """An array whose base is a page-locked host allocation."""

    def free(self) -> None:
        """Frees it."""


class Context:
    """The primary context, retained once."""

    def __init__(self, fake: FakePycuda) -> None:
        self._fake, self.valid, self._thread = fake, True, threading.get_ident()
        fake.check()
        fake.references += 1

    def push(self) -> None:
        self._fake.check()
        self._fake.stack.append(self)

    def pop(self) -> None:
        if not self._fake.stack:
            raise PycudaError("cannot pop non-current context")
        self._fake.check()  # cuCtxPopCurrent
        self._fake.stack.pop()

    def detach(self) -> None:
        """Releases the reference; failures are printed, not raised."""
        if not self.valid:
            raise PycudaError("cannot detach from invalid context")
        active = self._fake.current() is self
        if not active and self._thread != threading.get_ident():
            self.valid = False  # leaked: only its thread can release it
            return
        if not active:
            self._fake.dangling.add(threading.get_ident())  # pushed, and never popped
        self._fake.references -= 1
        self._fake.destroyed += not self._fake.references
        self.valid = False
        self._fake.current()

    def __del__(self) -> None:
        if self.valid:
            self.detach()


class Dependent:
    """An object that needs a current context."""

    def __init__(self, fake: FakePycuda) -> None:
        fake.require_context()
        self._fake = fake


class Allocation(Dependent):
    """Device memory."""

    def __int__(self) -> int:
        return id(self)

    def free(self) -> None:
        self._fake.require_context()


class Stream(Dependent):
    """A stream."""

    def __init__(self, fake: FakePycuda, flags: int) -> None:
        super().__init__(fake)
        fake.stream_flags.append(flags)
        self.handle = id(self)


class Event(Dependent):
    """An event."""

    def __init__(self, fake: FakePycuda, flags: int) -> None:
        super().__init__(fake)
        fake.event_flags.append(flags)

    def record(self, stream: Stream) -> None:
        self._fake.require_context()

    def synchronize(self) -> None:
        self._fake.require_context()
        self._fake.synchronised_by.append(threading.current_thread().name)

    def query(self) -> bool:
        self._fake.require_context()
        return True


def install(monkeypatch: pytest.MonkeyPatch) -> FakePycuda:
    """Makes ``pycuda.driver`` a fake, and our module on it one that is imported again."""
    fake = FakePycuda()
    package: Any = ModuleType("pycuda")
    package.driver = fake.driver()
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", package.driver)
    monkeypatch.delitem(sys.modules, _OURS, raising=False)
    ours = importlib.import_module(_OURS)
    del sys.modules[_OURS]
    monkeypatch.setitem(sys.modules, _OURS, ours)  # removed again after the test
    return fake
