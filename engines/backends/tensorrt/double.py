"""CUDA and a plan that compute on the CPU and check how they are used: the double of the seam, for tests.

Device memory is bytes of its own, addresses are numbers that nothing else has. Work that is started in a stream is
only queued; it runs when its event is asked for, one piece a question, so that code which does not wait reads what
was there before. Misuse raises :class:`MisuseError` at once: use after free, double free, addresses that were never
allocated, pinned memory that is read or written while a copy of it is queued, handles of another kind, calls from
a thread that does not own the context. What was not freed is found by :meth:`FakeCuda.close`.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8
from fusepipe.engines.backends.cuda.api import Gpu, HostBuffer
from fusepipe.engines.backends.openvino_graph import GraphRunner
from fusepipe.engines.backends.tensorrt.plan import Dimensions, PlanContext
from fusepipe.engines.tensor_names import OUTPUT, PLACES

Work = Callable[[], None]


class MisuseError(EngineError):
    """The seam was used in a way that real CUDA would punish, or worse, not notice."""


class FakePinned:
    """Pinned memory that knows which queued copies use it."""

    def __init__(self, cuda: FakeCuda, size_bytes: int) -> None:
        self._cuda = cuda
        self.array: Luma8 | None = np.full(size_bytes, 0xA5, np.uint8)
        self.address = cuda.new_handle("pinned")
        self.queued = 0

    def bytes(self) -> Luma8:
        """For work that runs."""
        if self.array is None:
            raise MisuseError("pinned memory was used after it was freed")
        return self.array

    def view(self) -> Luma8:
        self._cuda.owned()
        if self.queued:
            raise MisuseError("pinned memory was touched while a copy of it is under way: wait for its event first")
        return self.bytes()

    def close(self) -> None:
        self._cuda.owned()
        if self.array is None:
            raise MisuseError("pinned memory was freed twice")
        if self.queued:
            raise MisuseError("pinned memory was freed while a copy of it is under way")
        self.array = None
        self._cuda.forget(self.address, "pinned")


class FakeCuda:
    """See the module's text. ``fail`` names a call that fails as CUDA would, from the ``after``-th time on.

    It raises an ``error``; bindings have classes of their own.
    While ``computes`` is cleared the device takes its time: nothing that is queued runs.
    """

    name = "fake"

    def __init__(
        self, *, fail: str = "", after: int = 0, error: type[Exception] = EngineError, sm: str = "SM89"
    ) -> None:
        self._thread: int | None = None
        self._next = 0x7000_0000_0000
        self._kinds: dict[int, str] = {}
        self._memory: dict[int, Luma8] = {}
        self._queues: dict[int, deque[Work]] = {}
        self._events: dict[int, tuple[int, bool]] = {}
        self._graphs: dict[int, list[tuple[Work, FakePinned | None]]] = {}
        self._capturing: dict[int, list[tuple[Work, FakePinned | None]]] = {}
        self.fail, self._after, self._error, self._sm = fail, after, error, sm
        self.calls: dict[str, int] = {}
        self.computes = threading.Event()
        self.computes.set()
        self.closed = False

    # -- what the checks need

    def owned(self) -> None:
        """Raises unless the owner's thread calls."""
        if threading.get_ident() != self._thread:
            raise MisuseError("CUDA was called from a thread that does not own the context")

    def _call(self, name: str) -> None:
        self.owned()
        if self.closed:
            raise MisuseError(f"{name} after close")
        self.calls[name] = self.calls.get(name, 0) + 1
        if name == self.fail and self.calls[name] > self._after:
            raise self._error(f"CUDA: {name} failed, as asked for")

    def new_handle(self, kind: str) -> int:
        """A number that is nothing else's."""
        self._next += 0x10000
        self._kinds[self._next] = kind
        return self._next

    def forget(self, handle: int, kind: str) -> None:
        """Frees a handle; raises where it is not one of this kind."""
        self._known(handle, kind)
        del self._kinds[handle]

    def _known(self, handle: int, kind: str) -> None:
        if self._kinds.get(handle) != kind:
            raise MisuseError(f"{handle:#x} is no {kind} (freed already, or never made)")

    def bytes_at(self, address: int, size_bytes: int) -> Luma8:
        """Device memory, for work that runs."""
        if address not in self._memory:
            raise MisuseError(f"device memory {address:#x} was used after it was freed, or never allocated")
        if size_bytes > self._memory[address].size:
            raise MisuseError(f"{size_bytes} bytes are more than the {self._memory[address].size} at {address:#x}")
        return self._memory[address][:size_bytes]

    def enqueue(self, stream: int, work: Work, host: FakePinned | None = None) -> None:
        """Queues work in a stream, or notes it in the graph that is being captured."""
        self._known(stream, "stream")
        if stream in self._capturing:
            self._capturing[stream].append((work, host))
            return
        if host is not None:
            host.queued += 1
        self._queues[stream].append(work if host is None else _releasing(work, host))

    # -- the seam

    def gpu(self) -> Gpu:
        return Gpu("Fake GPU", self._sm, "13.0", "13.0")

    def bind_thread(self) -> None:
        if self._thread is not None:
            raise MisuseError("bound to a thread already")
        self._thread = threading.get_ident()

    def allocate(self, size_bytes: int) -> int:
        self._call("allocate")
        address = self.new_handle("memory")
        self._memory[address] = np.full(size_bytes, 0x5A, np.uint8)
        return address

    def free(self, address: int) -> None:
        self._call("free")
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
            raise MisuseError("a stream was destroyed while it has work")

    def copy_in(self, address: int, host: HostBuffer, size_bytes: int, stream: int) -> None:
        self._call("copy_in")
        pinned = self._pinned(host)
        self.bytes_at(address, size_bytes)

        def work() -> None:
            self.bytes_at(address, size_bytes)[:] = pinned.bytes()[:size_bytes]

        self.enqueue(stream, work, pinned)

    def copy_out(self, host: HostBuffer, address: int, size_bytes: int, stream: int) -> None:
        self._call("copy_out")
        pinned = self._pinned(host)
        self.bytes_at(address, size_bytes)

        def work() -> None:
            pinned.bytes()[:size_bytes] = self.bytes_at(address, size_bytes)

        self.enqueue(stream, work, pinned)

    @staticmethod
    def _pinned(host: HostBuffer) -> FakePinned:
        if not isinstance(host, FakePinned) or host.array is None:
            raise MisuseError("this is no pinned memory, or was freed")
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
        self.enqueue(stream, lambda: self._events.__setitem__(event, (stream, True)))

    def done(self, event: int) -> bool:
        self._call("done")
        self._known(event, "event")
        stream, reached = self._events[event]
        if not reached and self.computes.is_set():
            self._queues[stream].popleft()()
        return self._events[event][1]

    def destroy_event(self, event: int) -> None:
        self._call("destroy_event")
        self.forget(event, "event")
        if not self._events.pop(event)[1]:
            raise MisuseError("an event was destroyed before it was reached")

    def begin_capture(self, stream: int) -> None:
        self._call("begin_capture")
        self._known(stream, "stream")
        if self._queues[stream]:
            raise MisuseError("a capture began in a stream that has work")
        self._capturing[stream] = []

    def end_capture(self, stream: int) -> int:
        captured = self._capturing.pop(stream)
        self._call("end_capture")
        handle = self.new_handle("graph")
        self._graphs[handle] = captured
        return handle

    def launch(self, graph: int, stream: int) -> None:
        self._call("launch")
        self._known(graph, "graph")
        for work, host in self._graphs[graph]:
            self.enqueue(stream, work, host)

    def destroy_graph(self, graph: int) -> None:
        self._call("destroy_graph")
        self.forget(graph, "graph")
        del self._graphs[graph]

    def close(self) -> None:
        """Raises :class:`MisuseError` where anything was not freed."""
        self.owned()
        self.closed = True
        if self._kinds:
            raise MisuseError(f"not freed: {', '.join(sorted(self._kinds.values()))}")


def _releasing(work: Work, host: FakePinned) -> Work:
    def both() -> None:
        work()
        host.queued -= 1

    return both


class FakePlan:
    """Runs an ONNX graph on the CPU in place of a plan, on the bytes of a :class:`FakeCuda`'s device memory."""

    def __init__(self, cuda: FakeCuda, onnx: bytes) -> None:
        self._cuda, self._runner = cuda, GraphRunner(onnx)
        self._handle = cuda.new_handle("plan")
        self._contexts: list[_FakeContext] = []
        self.closed = False

    def context(self) -> PlanContext:
        if self.closed:
            raise MisuseError("a context of a plan that was closed")
        self._contexts.append(_FakeContext(self._cuda, self._runner))
        return self._contexts[-1]

    def close(self) -> None:
        self._cuda.owned()
        self._cuda.forget(self._handle, "plan")
        if not all(context.closed for context in self._contexts):
            raise MisuseError("a plan was closed before its contexts")
        self.closed = True


class _FakeContext:
    def __init__(self, cuda: FakeCuda, runner: GraphRunner) -> None:
        self._cuda, self._runner = cuda, runner
        self._addresses: dict[str, int] = {}
        self._dimensions: dict[str, Dimensions] = {}
        self._handle = cuda.new_handle("context")
        self.closed = False

    def set_input(self, name: str, dimensions: Dimensions, address: int) -> None:
        self._dimensions[name] = dimensions
        self._addresses[name] = address

    def set_output(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def execute(self, stream: int) -> None:
        self._cuda.owned()
        if self.closed:
            raise MisuseError("a context was used after it was closed")
        addresses, dimensions = dict(self._addresses), dict(self._dimensions)

        def work() -> None:
            if self.closed:
                raise MisuseError("a context was closed while it computes")
            feeds = {}
            for name, shape in dimensions.items():
                kind = np.dtype(np.float32 if name == PLACES else np.uint8)
                size_bytes = math.prod(shape) * kind.itemsize
                feeds[name] = self._cuda.bytes_at(addresses[name], size_bytes).view(kind).reshape(shape)
            fused = np.asarray(self._runner.computed(feeds)[OUTPUT], np.uint8).reshape(-1)
            self._cuda.bytes_at(addresses[OUTPUT], fused.size)[:] = fused

        self._cuda.enqueue(stream, work)

    def capturable(self, stream: int) -> bool:
        return True

    def close(self) -> None:
        self._cuda.owned()
        self._cuda.forget(self._handle, "context")
        self.closed = True
