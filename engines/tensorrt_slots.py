"""Buffers, stream and context of one request: what the TensorRT runtime has two of for each size.

The thread that made a slot uses and closes it. A request goes ``start`` -> ``done`` until true -> ``images``.
"""

from __future__ import annotations

import logging

import numpy as np

from fusepipe.engines.cuda_api import Cuda, HostBuffer
from fusepipe.engines.onnx_graph_names import INPUTS, OUTPUT
from fusepipe.engines.tensorrt_plan import Plan
from fusepipe.errors import EngineError
from fusepipe.frames import Luma8
from fusepipe.fuser import FusionBatch

_LOG = logging.getLogger(__name__)
Padded = tuple[int, int, int]  # (batch, height, width)


class Slot:
    """One request's resources for one padded size: two inputs and one output, pinned and on the device.

    After the first run the copies and the computation are captured into one CUDA graph, where the context
    allows it: a request is then a single launch.
    """

    def __init__(self, cuda: Cuda, plan: Plan, padded: Padded) -> None:
        self._cuda, self._padded = cuda, padded
        self._size_bytes = padded[0] * padded[1] * padded[2]
        self._context = plan.context()
        self._stream: int | None = None
        self._event: int | None = None
        self._graph: int | None = None
        self._capture = True
        self._host: dict[str, HostBuffer] = {}
        self._device: dict[str, int] = {}
        try:
            self._stream = cuda.stream()
            self._event = cuda.event()
            count, height, width = padded
            for name in (*INPUTS, OUTPUT):
                self._host[name] = cuda.pinned(self._size_bytes)
                self._device[name] = cuda.allocate(self._size_bytes)
            for name in INPUTS:
                self._context.set_input(name, (count, 1, height, width), self._device[name])
            self._context.set_output(OUTPUT, self._device[OUTPUT])
        except EngineError:
            self.close()
            raise

    def start(self, batch: FusionBatch) -> None:
        """Copies HxW images into pinned memory, edges repeated up to the padded size, and starts the request."""
        assert self._stream is not None and self._event is not None
        for name, images in zip(INPUTS, (batch.infrared, batch.visible), strict=True):
            target = self._host[name].view().reshape(self._padded)
            for plane, image in zip(target, images, strict=True):
                height, width = image.shape
                plane[:height, :width] = image
                plane[:height, width:] = image[:, -1:]
                plane[height:] = plane[height - 1]
        try:
            if self._graph is not None:
                self._cuda.launch(self._graph, self._stream)
            else:
                self._enqueue(self._stream)
        finally:  # what did start before a failure still uses the buffers: the event tells when it is over
            self._cuda.record(self._event, self._stream)

    def _enqueue(self, stream: int) -> None:
        for name in INPUTS:
            self._cuda.copy_in(self._device[name], self._host[name], self._size_bytes, stream)
        self._context.execute(stream)
        self._cuda.copy_out(self._host[OUTPUT], self._device[OUTPUT], self._size_bytes, stream)

    def done(self) -> bool:
        """Whether the result is there."""
        assert self._event is not None
        return self._cuda.done(self._event)

    def images(self, height: int, width: int) -> list[Luma8]:
        """The result, copied; only after :meth:`done`."""
        fused = self._host[OUTPUT].view().reshape(self._padded)
        copies: list[Luma8] = [np.array(image[:height, :width]) for image in fused]
        self._try_capture()
        return copies

    def _try_capture(self) -> None:
        """Captures the request once it has run (TensorRT sets itself up in the first run)."""
        assert self._stream is not None
        if self._graph is not None or not self._capture:
            return
        self._capture = False
        if not self._context.capturable(self._stream):
            return
        try:
            self._cuda.begin_capture(self._stream)
            try:
                self._enqueue(self._stream)
            except EngineError:
                self._cuda.destroy_graph(self._cuda.end_capture(self._stream))
                raise
            self._graph = self._cuda.end_capture(self._stream)
        except EngineError as error:
            _LOG.info("no CUDA graph for %s, requests are started call by call: %s", self._padded, error)

    def close(self) -> None:
        """Frees everything; the request has to be done."""
        cuda = self._cuda
        if self._graph is not None:
            cuda.destroy_graph(self._graph)
        for buffer in self._host.values():
            buffer.close()
        for address in self._device.values():
            cuda.free(address)
        if self._event is not None:
            cuda.destroy_event(self._event)
        if self._stream is not None:
            cuda.destroy_stream(self._stream)
        self._host, self._device = {}, {}
        self._graph = self._event = self._stream = None
