"""CUDA through NVIDIA's ``cuda-bindings``: the runtime API, whose context is shared with TensorRT."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from cuda.bindings import runtime
from cuda.bindings.utils import get_cuda_native_handle

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import Gpu, HostBuffer, OutOfGpuMemoryError, PinnedArray, cuda_version


def _checked(answer: tuple[Any, ...]) -> Any:
    """The value of a CUDA call; raises :class:`EngineError` for its error code."""
    code, *values = answer
    if code != runtime.cudaError_t.cudaSuccess:
        _, text = runtime.cudaGetErrorString(code)
        kind = OutOfGpuMemoryError if code == runtime.cudaError_t.cudaErrorMemoryAllocation else EngineError
        raise kind(f"CUDA: {text.decode() if isinstance(text, bytes) else text} ({code.name})")
    return values[0] if values else None


def _handle(value: Any) -> int:
    """The address of a CUDA object; ``int(value)`` is deprecated since cuda-bindings 12.9.1."""
    address: int = get_cuda_native_handle(value)
    return address


class _Pinned(PinnedArray):
    """Page-locked memory of the CUDA runtime."""

    def __init__(self, size_bytes: int) -> None:
        address = int(_checked(runtime.cudaHostAlloc(size_bytes, runtime.cudaHostAllocDefault)))
        super().__init__(np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address)))

    def close(self) -> None:
        if self.take() is not None:
            _checked(runtime.cudaFreeHost(self.address))


class BindingsCuda:
    """See :class:`fusepipe.engines.backends.cuda.api.Cuda`. Raises :class:`EngineError` without a GPU."""

    name = "cuda-bindings"
    has_graphs = True

    def __init__(self, device: int = 0) -> None:
        count = _checked(runtime.cudaGetDeviceCount())
        if count <= device:
            raise EngineError(f"CUDA finds {count} GPUs, none with the index {device}")
        self._device = device

    def gpu(self) -> Gpu:
        facts = _checked(runtime.cudaGetDeviceProperties(self._device))
        name = facts.name.decode() if isinstance(facts.name, bytes) else str(facts.name)
        return Gpu(
            name=name.rstrip("\0"),
            sm=f"SM{facts.major}{facts.minor}",
            driver_cuda=cuda_version(_checked(runtime.cudaDriverGetVersion())),
            runtime_cuda=cuda_version(_checked(runtime.cudaRuntimeGetVersion())),
        )

    def bind_thread(self) -> None:
        _checked(runtime.cudaSetDevice(self._device))

    def unbind_thread(self) -> None:
        """Nothing to undo: the current device of a thread ends with the thread."""

    def allocate(self, size_bytes: int) -> int:
        return int(_checked(runtime.cudaMalloc(size_bytes)))

    def free(self, address: int) -> None:
        _checked(runtime.cudaFree(address))

    def pinned(self, size_bytes: int) -> HostBuffer:
        return _Pinned(size_bytes)

    def stream(self) -> int:
        return _handle(_checked(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking)))

    def destroy_stream(self, stream: int) -> None:
        _checked(runtime.cudaStreamDestroy(stream))

    def copy_in(self, address: int, host: HostBuffer, size_bytes: int, stream: int) -> None:
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        _checked(runtime.cudaMemcpyAsync(address, host.address, size_bytes, kind, stream))

    def copy_out(self, host: HostBuffer, address: int, size_bytes: int, stream: int) -> None:
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _checked(runtime.cudaMemcpyAsync(host.address, address, size_bytes, kind, stream))

    def event(self) -> int:
        # without BlockingSync, cudaEventSynchronize busy-waits
        flags = runtime.cudaEventDisableTiming | runtime.cudaEventBlockingSync
        return _handle(_checked(runtime.cudaEventCreateWithFlags(flags)))

    def record(self, event: int, stream: int) -> None:
        _checked(runtime.cudaEventRecord(event, stream))

    def wait(self, event: int) -> None:
        _checked(runtime.cudaEventSynchronize(event))  # releases the GIL

    def destroy_event(self, event: int) -> None:
        _checked(runtime.cudaEventDestroy(event))

    def begin_capture(self, stream: int) -> None:
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked(runtime.cudaStreamBeginCapture(stream, mode))

    def end_capture(self, stream: int) -> int:
        graph = _checked(runtime.cudaStreamEndCapture(stream))
        try:
            return _handle(_checked(runtime.cudaGraphInstantiate(graph, 0)))
        finally:
            _checked(runtime.cudaGraphDestroy(graph))

    def launch(self, graph: int, stream: int) -> None:
        _checked(runtime.cudaGraphLaunch(graph, stream))

    def destroy_graph(self, graph: int) -> None:
        _checked(runtime.cudaGraphExecDestroy(graph))

    def close(self) -> None:
        """Nothing to release: the primary context is shared with TensorRT."""
