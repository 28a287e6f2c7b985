"""The part of CUDA that is used: memory, copies, streams, events, graphs.

Three classes implement it: ``cuda-bindings`` (NVIDIA's own, ready wheels: preferred), ``pycuda``, and
:class:`fusepipe.engines.backends.cuda.fake.FakeCuda`, which executes on the CPU and detects misuse.

The first thread that is bound (:meth:`Cuda.bind_thread`) owns the context and makes all calls; threads bound later only
wait for events. Addresses and handles are integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8

IMPLEMENTATIONS = {
    "cuda-bindings": "fusepipe.engines.backends.cuda.bindings:BindingsCuda",
    "pycuda": "fusepipe.engines.backends.cuda.pycuda:PycudaCuda",
}
INSTALL = "pip install 'fusepipe[cuda]' (cuda-bindings), or 'fusepipe[pycuda]'"


class OutOfGpuMemoryError(EngineError):
    """The GPU, or page-locked host memory, has no room for an allocation."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: its name, architecture (``SM89``), the CUDA versions of driver and runtime, CUDA's index and the UUID."""

    name: str
    sm: str
    driver_cuda: str
    runtime_cuda: str
    index: int = 0
    uuid: str = ""

    @property
    def driver_number(self) -> int:
        """The CUDA version of the driver as CUDA writes it: 12040 is 12.4."""
        major, _, minor = self.driver_cuda.partition(".")
        return 1000 * int(major) + 10 * int(minor or 0)


class HostBuffer(Protocol):
    """Page-locked host memory, for asynchronous copies."""

    @property
    def address(self) -> int: ...
    def view(self) -> Luma8:
        """The bytes, 1-D uint8; not to be accessed while a copy from or to them is in flight."""

    def close(self) -> None: ...


class PinnedArray:
    """A page-locked 1-D uint8 array until it is freed: the common part of :class:`HostBuffer` implementations."""

    def __init__(self, array: Luma8) -> None:
        self.address = int(array.ctypes.data)
        self._array: Luma8 | None = array

    def view(self) -> Luma8:
        """See :class:`HostBuffer`."""
        if self._array is None:
            raise EngineError("a pinned buffer was used after it was freed")
        return self._array

    def take(self) -> Luma8 | None:
        """The array to free, once; ``None`` afterwards."""
        array, self._array = self._array, None
        return array


class Cuda(Protocol):
    """The CUDA calls of the TensorRT runtime; each raises :class:`EngineError` with CUDA's message."""

    @property
    def name(self) -> str: ...
    @property
    def has_graphs(self) -> bool:
        """Whether streams can be captured into CUDA graphs."""

    def gpu(self) -> Gpu:
        """The properties of the device; needs no bound thread."""

    def bind_thread(self) -> None:
        """Makes the device's context current in the calling thread; the first thread becomes its owner."""

    def unbind_thread(self) -> None:
        """Undoes :meth:`bind_thread` in a thread that is not the owner; the owner calls :meth:`close`."""

    def allocate(self, size_bytes: int) -> int:
        """Device memory; raises :class:`OutOfGpuMemoryError`."""

    def free(self, address: int) -> None: ...
    def pinned(self, size_bytes: int) -> HostBuffer:
        """Page-locked memory; raises :class:`OutOfGpuMemoryError`."""

    def stream(self) -> int:
        """A stream that does not synchronise with the default stream."""

    def destroy_stream(self, stream: int) -> None: ...
    def copy_in(self, address: int, host: HostBuffer, size_bytes: int, stream: int) -> None:
        """Starts a copy from host to device."""

    def copy_out(self, host: HostBuffer, address: int, size_bytes: int, stream: int) -> None:
        """Starts a copy from device to host."""

    def event(self) -> int: ...
    def record(self, event: int, stream: int) -> None: ...
    def wait(self, event: int) -> None:
        """Blocks any bound thread, without using the CPU, until the work before the event in its stream has completed.

        Raises if that work failed.
        """

    def destroy_event(self, event: int) -> None: ...
    def begin_capture(self, stream: int) -> None:
        """Records the work started from now on instead of executing it; only if :attr:`has_graphs`."""

    def end_capture(self, stream: int) -> int:
        """An executable graph of the work started since :meth:`begin_capture`."""

    def launch(self, graph: int, stream: int) -> None: ...
    def destroy_graph(self, graph: int) -> None: ...
    def close(self) -> None:
        """Releases the device, after everything else was freed."""


def open_cuda(prefer: str | None = None, device: int = 0) -> Cuda:
    """CUDA on the GPU with an index, through the first package that finds it.

    Raises :class:`EngineError` with the reason of each package.
    """
    reasons = []
    for name in [prefer] if prefer else list(IMPLEMENTATIONS):
        module, _, attribute = IMPLEMENTATIONS[name].partition(":")
        try:
            cuda: Cuda = getattr(import_module(module), attribute)(device)
        except ImportError as error:
            reasons.append(f"{name} cannot be imported ({error})")
        except EngineError as error:
            reasons.append(f"{name}: {error}")
        else:
            return cuda
    raise EngineError(f"no GPU can be used: {'; '.join(reasons)}; {INSTALL}, and NVIDIA's driver")


def cuda_version(number: int) -> str:
    """A CUDA version number as text: 13050 is 13.5."""
    return f"{number // 1000}.{number % 1000 // 10}"
