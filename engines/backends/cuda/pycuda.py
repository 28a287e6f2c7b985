"""CUDA through ``pycuda``: the driver API, in the device's primary context, which TensorRT uses as well.

PyCUDA keeps a stack of contexts for each thread and aborts the process if a thread ends while its stack is not empty.
``Context.pop`` raises after an error that leaves the context unusable, and then does not empty the stack;
``Context.detach`` of the current context always does, and releases it (``src/cpp/cuda.hpp``).
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from pycuda import driver

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import Gpu, HostBuffer, OutOfGpuMemoryError, PinnedArray, cuda_version

_NO_GRAPHS = "pycuda has no CUDA graphs"
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the stream does not synchronise with the default stream

_lock = threading.Lock()
_retained: dict[int, Any] = {}
"""The primary context of each device in use, retained once more until the process ends.

The primary context is destroyed with its last reference, and with it what TensorRT and PyTorch have in it.
"""


class _Pinned(PinnedArray):
    """Page-locked memory of pycuda."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(driver.pagelocked_empty(size_bytes, np.uint8))

    def close(self) -> None:
        array = self.take()
        if array is not None:
            memory: Any = array.base
            memory.free()


class PycudaCuda:
    """See :class:`fusepipe.engines.backends.cuda.api.Cuda`. Raises :class:`EngineError` without a GPU.

    pycuda's objects are freed with their last reference, so they are kept here by handle.
    """

    name = "pycuda"
    has_graphs = False

    def __init__(self, device: int = 0) -> None:
        try:
            driver.init()
            if driver.Device.count() <= device:
                raise EngineError("CUDA finds no GPU")
        except driver.Error as error:
            raise EngineError(f"CUDA: {error}") from error
        self._number, self._device = device, driver.Device(device)
        self._contexts = threading.local()  # one reference to the primary context for each bound thread
        self._kept: dict[int, Any] = {}

    def gpu(self) -> Gpu:
        major, minor = self._call(self._device.compute_capability)
        return Gpu(
            name=self._call(self._device.name),
            sm=f"SM{major}{minor}",
            driver_cuda=cuda_version(driver.get_driver_version()),
            runtime_cuda=".".join(str(part) for part in driver.get_version()[:2]),
        )

    def bind_thread(self) -> None:
        with _lock:
            if self._number not in _retained:
                _retained[self._number] = self._call(self._device.retain_primary_context)
        context = self._call(self._device.retain_primary_context)
        self._call(context.push)
        self._contexts.current = context

    def unbind_thread(self) -> None:
        context = getattr(self._contexts, "current", None)
        if context is not None:
            self._contexts.current = None
            context.detach()

    def _call(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except driver.MemoryError as error:
            raise OutOfGpuMemoryError(f"CUDA: {error}") from error
        except driver.Error as error:
            raise EngineError(f"CUDA: {error}") from error

    def _keep(self, thing: Any) -> int:
        handle = int(getattr(thing, "handle", 0)) or id(thing)
        self._kept[handle] = thing
        return handle

    def allocate(self, size_bytes: int) -> int:
        memory = self._call(driver.mem_alloc, size_bytes)
        self._kept[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        self._call(self._kept.pop(address).free)

    def pinned(self, size_bytes: int) -> HostBuffer:
        buffer: HostBuffer = self._call(_Pinned, size_bytes)
        return buffer

    def stream(self) -> int:
        return self._keep(self._call(driver.Stream, _NON_BLOCKING))

    def destroy_stream(self, stream: int) -> None:
        del self._kept[stream]

    def copy_in(self, address: int, host: HostBuffer, size_bytes: int, stream: int) -> None:
        self._call(driver.memcpy_htod_async, address, host.view()[:size_bytes], self._kept[stream])

    def copy_out(self, host: HostBuffer, address: int, size_bytes: int, stream: int) -> None:
        self._call(driver.memcpy_dtoh_async, host.view()[:size_bytes], address, self._kept[stream])

    def event(self) -> int:
        flags = driver.event_flags
        return self._keep(self._call(driver.Event, flags.DISABLE_TIMING | flags.BLOCKING_SYNC))

    def record(self, event: int, stream: int) -> None:
        self._call(self._kept[event].record, self._kept[stream])

    def wait(self, event: int) -> None:
        self._call(self._kept[event].synchronize)  # releases the GIL

    def destroy_event(self, event: int) -> None:
        del self._kept[event]

    def begin_capture(self, stream: int) -> None:
        raise EngineError(_NO_GRAPHS)

    def end_capture(self, stream: int) -> int:
        raise EngineError(_NO_GRAPHS)

    def launch(self, graph: int, stream: int) -> None:
        raise EngineError(_NO_GRAPHS)

    def destroy_graph(self, graph: int) -> None:
        raise EngineError(_NO_GRAPHS)

    def close(self) -> None:
        self._kept.clear()
        self.unbind_thread()
