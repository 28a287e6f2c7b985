"""The narrow seam to CUDA: memory, copies, streams, events, graphs. Nothing else of CUDA is used.

Three meet it: ``cuda-bindings`` (NVIDIA's own, ready wheels: preferred), ``pycuda``, and
:class:`fusepipe.engines.backends.tensorrt.double.FakeCuda`, which computes on the CPU and checks how it is used.

One thread calls everything, after :meth:`Cuda.bind_thread`. Addresses and handles are integers.
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


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU: its name, architecture as ``SM89``, and the versions of CUDA that driver and runtime speak."""

    name: str
    sm: str
    driver_cuda: str
    runtime_cuda: str


class HostBuffer(Protocol):
    """Page-locked memory of the host, which the GPU copies from and to without a detour."""

    @property
    def address(self) -> int: ...
    def view(self) -> Luma8:
        """The bytes, 1-D uint8. To be read only after the copy into them is done, written only after the one out."""

    def close(self) -> None: ...


class Cuda(Protocol):
    """CUDA as the TensorRT runtime uses it; every call raises :class:`EngineError` with CUDA's own words."""

    @property
    def name(self) -> str: ...
    def gpu(self) -> Gpu: ...
    def bind_thread(self) -> None:
        """Makes the calling thread the one that owns everything; first of all calls."""

    def allocate(self, size_bytes: int) -> int: ...
    def free(self, address: int) -> None: ...
    def pinned(self, size_bytes: int) -> HostBuffer: ...
    def stream(self) -> int: ...
    def destroy_stream(self, stream: int) -> None: ...
    def copy_in(self, address: int, host: HostBuffer, size_bytes: int, stream: int) -> None:
        """Starts a copy to the device."""

    def copy_out(self, host: HostBuffer, address: int, size_bytes: int, stream: int) -> None:
        """Starts a copy from the device."""

    def event(self) -> int: ...
    def record(self, event: int, stream: int) -> None: ...
    def done(self, event: int) -> bool:
        """Whether all that came before the event in its stream is done; raises where it failed."""

    def destroy_event(self, event: int) -> None: ...
    def begin_capture(self, stream: int) -> None: ...
    def end_capture(self, stream: int) -> int:
        """The graph of what was started in between, ready to launch."""

    def launch(self, graph: int, stream: int) -> None: ...
    def destroy_graph(self, graph: int) -> None: ...
    def close(self) -> None:
        """Gives the device back; everything else was freed before."""


def open_cuda(prefer: str | None = None) -> Cuda:
    """CUDA through the first package that finds a GPU; raises :class:`EngineError` that says why there is none."""
    reasons = []
    for name in [prefer] if prefer else list(IMPLEMENTATIONS):
        module, _, attribute = IMPLEMENTATIONS[name].partition(":")
        try:
            cuda: Cuda = getattr(import_module(module), attribute)()
        except ImportError as error:
            reasons.append(f"{name} cannot be imported ({error})")
        except EngineError as error:
            reasons.append(f"{name}: {error}")
        else:
            return cuda
    raise EngineError(f"no GPU can be used: {'; '.join(reasons)}; {INSTALL}, and NVIDIA's driver")


def find_gpu() -> tuple[Gpu | None, str]:
    """The GPU of this machine, or ``None`` and the reason."""
    try:
        cuda = open_cuda()
    except EngineError as error:
        return None, str(error)
    try:
        cuda.bind_thread()
        return cuda.gpu(), ""
    except EngineError as error:
        return None, str(error)
    finally:
        cuda.close()


def cuda_version(number: int) -> str:
    """CUDA's own version number in words: 13050 is 13.5."""
    return f"{number // 1000}.{number % 1000 // 10}"
