"""CUDA through ``pycuda``: the driver API, in the device's primary context, which TensorRT uses as well."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycuda import driver

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import Gpu, HostBuffer, PinnedArray, cuda_version

_NO_GRAPHS = "pycuda has no CUDA graphs: each request is launched call by call"


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

    def __init__(self, device: int = 0) -> None:
        try:
            driver.init()
            if driver.Device.count() <= device:
                raise EngineError("CUDA finds no GPU")
        except driver.Error as error:
            raise EngineError(f"CUDA: {error}") from error
        self._device = driver.Device(device)
        self._context: Any = None
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
        if self._context is None:
            self._context = self._call(self._device.retain_primary_context)
        self._call(self._context.push)

    def _call(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
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
        return self._keep(self._call(driver.Stream))

    def destroy_stream(self, stream: int) -> None:
        del self._kept[stream]

    def copy_in(self, address: int, host: HostBuffer, size_bytes: int, stream: int) -> None:
        self._call(driver.memcpy_htod_async, address, host.view()[:size_bytes], self._kept[stream])

    def copy_out(self, host: HostBuffer, address: int, size_bytes: int, stream: int) -> None:
        self._call(driver.memcpy_dtoh_async, host.view()[:size_bytes], address, self._kept[stream])

    def event(self) -> int:
        return self._keep(self._call(driver.Event, driver.event_flags.DISABLE_TIMING))

    def record(self, event: int, stream: int) -> None:
        self._call(self._kept[event].record, self._kept[stream])

    def done(self, event: int) -> bool:
        return bool(self._call(self._kept[event].query))

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
        if self._context is not None:
            self._context.pop()
            self._context = None
