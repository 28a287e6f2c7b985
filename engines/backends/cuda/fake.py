"""A fake of the CUDA interface for tests: it executes on the CPU and detects misuse.

Device memory is separate from host memory, with unique addresses. Work started in a stream is queued, and executes only
while a thread waits for an event of the stream, so that code which does not wait reads stale data. Misuse raises
:class:`MisuseError` immediately: use after free, double free, unallocated addresses, access to pinned memory while a
copy of it is queued, scratch memory used by two streams together, handles of the wrong kind, calls from a thread that
does not own the context. :meth:`FakeCuda.close` detects leaks.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8
from fusepipe.engines.backends.cuda.api import Gpu, HostBuffer, OutOfGpuMemoryError


class MisuseError(EngineError):
    """CUDA was misused: with a GPU this is a crash, or corrupt data without an error."""


@dataclass(frozen=True, slots=True)
class Work:
    """Work in a stream: what it does, and the pinned and scratch memory that it uses."""

    run: Callable[[], None]
    host: FakePinned | None = None
    scratch: int = 0


class FakePinned:
    """Pinned memory that counts the queued copies using it."""

    def __init__(self, cuda: FakeCuda, size_bytes: int) -> None:
        self._cuda = cuda
        self.array: Luma8 | None = np.full(size_bytes, 0xA5, np.uint8)
        self.address = cuda.new_handle("pinned")
        self.queued = 0

    def bytes(self) -> Luma8:
        """The memory, for work that executes."""
        if self.array is None:
            raise MisuseError("pinned memory was used after it was freed")
        return self.array

    def view(self) -> Luma8:
        if self.queued:
            raise MisuseError("pinned memory was accessed while a copy of it is in flight: wait for its event first")
        return self.bytes()

    def close(self) -> None:
        self._cuda.owned()
        if self.array is None:
            raise MisuseError("pinned memory was freed twice")
        if self.queued:
            raise MisuseError("pinned memory was freed while a copy of it is in flight")
        self.array = None
        self._cuda.forget(self.address, "pinned")


class FakeCuda:
    """A fake :class:`fusepipe.engines.backends.cuda.api.Cuda`; see the module's docstring.

    ``fail`` names a method that raises ``error`` after ``after`` successful calls. ``memory_bytes`` limits the device
    memory. ``has_graphs``: streams can be captured. While ``computes`` is cleared the device is busy: nothing queued
    executes.
    """

    name = "fake"

    def __init__(
        self,
        *,
        fail: str = "",
        after: int = 0,
        error: type[Exception] = EngineError,
        sm: str = "SM89",
        memory_bytes: int | None = None,
        has_graphs: bool = True,
    ) -> None:
        self._owner: int | None = None
        self._bound: set[int] = set()
        self._lock = threading.RLock()
        self._next = 0x7000_0000_0000
        self._kinds: dict[int, str] = {}
        self._memory: dict[int, Luma8] = {}
        self._queues: dict[int, deque[Work]] = {}
        self._events: dict[int, tuple[int, bool]] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._capturing: dict[int, list[Work]] = {}
        self._scratch_users: dict[int, Counter[int]] = {}  # address -> queued work by stream
        self.fail, self._after, self._error, self._sm = fail, after, error, sm
        self.memory_bytes, self.has_graphs = memory_bytes, has_graphs
        self.peak_bytes = 0
        self.calls: dict[str, int] = {}
        self.computes = threading.Event()
        self.computes.set()
        self.closed = False

    # -- for the checks

    @property
    def used_bytes(self) -> int:
        """The device memory that is allocated."""
        return sum(memory.size for memory in self._memory.values())

    def owned(self) -> None:
        """Raises unless called by the thread that owns the context."""
        if threading.get_ident() != self._owner:
            raise MisuseError("CUDA was called from a thread that does not own the context")

    def _call(self, name: str) -> None:
        self.owned()
        self._count(name)

    def _count(self, name: str) -> None:
        if self.closed:
            raise MisuseError(f"{name} after close")
        with self._lock:
            self.calls[name] = self.calls.get(name, 0) + 1
        if name == self.fail and self.calls[name] > self._after:
            raise self._error(f"CUDA: {name} failed, as configured")

    def new_handle(self, kind: str) -> int:
        """A unique handle."""
        self._next += 0x10000
        self._kinds[self._next] = kind
        return self._next

    def forget(self, handle: int, kind: str) -> None:
        """Frees a handle; raises if it is not of this kind."""
        self._known(handle, kind)
        del self._kinds[handle]

    def _known(self, handle: int, kind: str) -> None:
        if self._kinds.get(handle) != kind:
            raise MisuseError(f"{handle:#x} is not a valid {kind} (freed already, or never allocated)")

    def bytes_at(self, address: int, size_bytes: int) -> Luma8:
        """Device memory, for work that executes."""
        if address not in self._memory:
            raise MisuseError(f"device memory {address:#x} was used after it was freed, or was never allocated")
        if size_bytes > self._memory[address].size:
            raise MisuseError(f"{size_bytes} bytes are more than the {self._memory[address].size} at {address:#x}")
        return self._memory[address][:size_bytes]

    def enqueue(self, stream: int, work: Work) -> None:
        """Queues work in a stream, or records it in the graph being captured."""
        self._known(stream, "stream")
        if stream in self._capturing:
            self._capturing[stream].append(work)
            return
        with self._lock:
            if work.host is not None:
                work.host.queued += 1
            if work.scratch:
                users = self._scratch_users.setdefault(work.scratch, Counter())
                if any(count and other != stream for other, count in users.items()):
                    raise MisuseError("scratch memory is used by two contexts that execute together")
                users[stream] += 1
            self._queues[stream].append(work)

    def _execute(self, stream: int, work: Work) -> None:
        work.run()
        with self._lock:
            if work.host is not None:
                work.host.queued -= 1
            if work.scratch:
                self._scratch_users[work.scratch][stream] -= 1

    # -- the CUDA interface

    def gpu(self) -> Gpu:
        return Gpu("Fake GPU", self._sm, "13.0", "13.0")

    def bind_thread(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            if thread in self._bound:
                raise MisuseError("bound to this thread already")
            self._bound.add(thread)
            self._owner = self._owner or thread

    def unbind_thread(self) -> None:
        with self._lock:
            if threading.get_ident() == self._owner:
                raise MisuseError("the owner closes the context instead")
            self._bound.remove(threading.get_ident())

    def allocate(self, size_bytes: int) -> int:
        self._call("allocate")
        if size_bytes < 1:
            raise MisuseError(f"{size_bytes} bytes were allocated")
        if self.memory_bytes is not None and self.used_bytes + size_bytes > self.memory_bytes:
            raise OutOfGpuMemoryError(f"CUDA: out of memory ({size_bytes} bytes, {self.used_bytes} are used)")
        address = self.new_handle("memory")
        self._memory[address] = np.full(size_bytes, 0x5A, np.uint8)
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        return address

    def free(self, address: int) -> None:
        self._call("free")
        if any(self._scratch_users.get(address, Counter()).values()):
            raise MisuseError("scratch memory was freed while a context uses it")
        self.forget(address, "memory")
        del self._memory[address]

    def pinned(self, size_bytes: int) -> HostBuffer:
        self._call("pinned")
        return FakePinned(self, size_bytes)

    def stream(self) -> int:
        self._call("stream")
        handle = self.new_handle("stream")
        self._queues[handle] = deque()
        return handle

    def destroy_stream(self, stream: int) -> None:
        self._call("destroy_stream")
        self.forget(stream, "stream")
        if self._queues.pop(stream):
            raise MisuseError("a stream was destroyed with work queued")

    def copy_in(self, address: int, host: HostBuffer, size_bytes: int, stream: int) -> None:
        self._call("copy_in")
        pinned = self._pinned(host)
        self.bytes_at(address, size_bytes)

        def work() -> None:
            self.bytes_at(address, size_bytes)[:] = pinned.bytes()[:size_bytes]

        self.enqueue(stream, Work(work, pinned))

    def copy_out(self, host: HostBuffer, address: int, size_bytes: int, stream: int) -> None:
        self._call("copy_out")
        pinned = self._pinned(host)
        self.bytes_at(address, size_bytes)

        def work() -> None:
            pinned.bytes()[:size_bytes] = self.bytes_at(address, size_bytes)

        self.enqueue(stream, Work(work, pinned))

    @staticmethod
    def _pinned(host: HostBuffer) -> FakePinned:
        if not isinstance(host, FakePinned) or host.array is None:
            raise MisuseError("not pinned memory, or already freed")
        return host

    def event(self) -> int:
        self._call("event")
        handle = self.new_handle("event")
        self._events[handle] = (0, True)
        return handle

    def record(self, event: int, stream: int) -> None:
        self._call("record")
        self._known(event, "event")
        self._events[event] = (stream, False)
        self.enqueue(stream, Work(lambda: self._events.__setitem__(event, (stream, True))))

    def wait(self, event: int) -> None:
        if threading.get_ident() not in self._bound:
            raise MisuseError("CUDA was called from a thread that is not bound")
        self._count("wait")
        self._known(event, "event")
        while not self._events[event][1]:
            self.computes.wait()
            stream = self._events[event][0]
            self._execute(stream, self._queues[stream].popleft())

    def destroy_event(self, event: int) -> None:
        self._call("destroy_event")
        self.forget(event, "event")
        if not self._events.pop(event)[1]:
            raise MisuseError("an event was destroyed before it was reached")

    def begin_capture(self, stream: int) -> None:
        self._call("begin_capture")
        self._known(stream, "stream")
        if not self.has_graphs:
            raise EngineError("no CUDA graphs")
        if self._queues[stream]:
            raise MisuseError("a capture began in a stream with work queued")
        self._capturing[stream] = []

    def capturing(self, stream: int) -> bool:
        """Whether the work of a stream is being captured."""
        return stream in self._capturing

    def end_capture(self, stream: int) -> int:
        captured = self._capturing.pop(stream)
        self._call("end_capture")
        handle = self.new_handle("graph")
        self._graphs[handle] = captured
        return handle

    def launch(self, graph: int, stream: int) -> None:
        self._call("launch")
        self._known(graph, "graph")
        for work in self._graphs[graph]:
            self.enqueue(stream, work)

    def destroy_graph(self, graph: int) -> None:
        self._call("destroy_graph")
        self.forget(graph, "graph")
        del self._graphs[graph]

    def close(self) -> None:
        """Raises :class:`MisuseError` if anything was not freed."""
        self.owned()
        self.closed = True
        if self._kinds:
            raise MisuseError(f"not freed: {', '.join(sorted(self._kinds.values()))}")
        if len(self._bound) > 1:
            raise MisuseError("closed while another thread is bound")
