"""The buffers, stream and context of one request of one size.

A slot is used and closed by the thread that created it; only :meth:`Slot.wait` and :meth:`Slot.images` may be called by
another thread. A request is ``start``, ``wait``, ``images``, ``finished``.
"""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import FusionBatch
from fusepipe.engines.backends.cuda.api import Cuda, HostBuffer
from fusepipe.engines.backends.tensorrt.plan import Plan, PlanContext
from fusepipe.engines.sampling_grid import GridCache
from fusepipe.engines.tensor_names import INPUTS, OUTPUT, SAMPLING_GRID

_LOG = logging.getLogger(__name__)
Padded = tuple[int, int, int]  # (batch, height, width)
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class SlotSize:
    """The padded size of visible images; ``raw`` is the (height, width) of infrared images for plans with the warp."""

    padded: Padded
    raw: tuple[int, int] | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs in order: images N x 1 x H x W uint8, the sampling grid N x H x W x 2 float32."""
        count, height, width = self.padded
        image = (count, 1, height, width)
        if self.raw is None:
            return dict.fromkeys(INPUTS, image)
        return {INPUTS[0]: (count, 1, *self.raw), INPUTS[1]: image, SAMPLING_GRID: (*self.padded, 2)}


class Slot:
    """The resources of one request of one size: inputs and output, in pinned and in device memory.

    Its scratch memory belongs to the lane that it executes in (:mod:`fusepipe.engines.backends.tensorrt.lanes`). After
    the first run, copies and computation are captured into a CUDA graph if the context allows it; a request is then a
    single launch. A sampling grid is copied only when the warp changes. ``eager``: see :class:`Plan`.
    """

    def __init__(self, cuda: Cuda, plan: Plan, size: SlotSize, *, eager: bool) -> None:
        self._cuda, self._size, self._padded = cuda, size, size.padded
        self._size_bytes = math.prod(size.padded)
        self._grid_keys: list[str] = []
        self._context: PlanContext | None = None
        self._stream: int | None = None
        self._event: int | None = None
        self._graph: int | None = None
        self._capture = True
        self._scratch: tuple[int, int] | None = None
        self.scratch_bytes = 0
        """The scratch memory that :meth:`start` needs."""
        self.warm = False
        """Whether a request has completed, so that the next one needs no set-up."""
        self._host: dict[str, HostBuffer] = {}
        self._device: dict[str, int] = {}
        try:
            self._stream = cuda.stream()
            self._event = cuda.event()
            self._context = plan.context(self._stream, eager=eager)
            self._bytes = {
                name: math.prod(shape) * (_FLOAT_BYTES if name == SAMPLING_GRID else 1)
                for name, shape in size.shapes.items()
            }
            for name, size_bytes in (*self._bytes.items(), (OUTPUT, self._size_bytes)):
                self._host[name] = cuda.pinned(size_bytes)
                self._device[name] = cuda.allocate(size_bytes)
            for name, shape in size.shapes.items():
                self._context.set_input(name, shape, self._device[name])
            self._context.set_output(OUTPUT, self._device[OUTPUT])
            self.scratch_bytes = self._context.scratch_bytes()
        except Exception:
            self.close()
            raise

    def use_scratch(self, address: int, size_bytes: int) -> None:
        """The scratch memory of the following requests; 0 bytes if none is needed."""
        if (address, size_bytes) == self._scratch:
            return
        assert self._context is not None
        self._drop_graph()  # it holds the address
        self._capture = True
        self._context.set_scratch(address, size_bytes)
        self._scratch = (address, size_bytes)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            graph, self._graph = self._graph, None
            self._cuda.destroy_graph(graph)

    def black_batch(self) -> FusionBatch:
        """A batch of black images of this size, for warming up."""
        (count, _, *visible), (_, _, *infrared) = (self._size.shapes[name] for name in reversed(INPUTS))
        images = [[np.zeros(sides, np.uint8)] * count for sides in (infrared, visible)]
        return FusionBatch(images[0], images[1], warps=[None] * count if self._size.raw is not None else ())

    def start(self, batch: FusionBatch, grids: GridCache) -> None:
        """Copies HxW images into pinned memory, edges repeated up to the padded size, and starts the request.

        Raw infrared images are prefiltered (:func:`fusepipe.engines.sampling_grid.prefiltered_infrared`).
        """
        assert self._stream is not None and self._event is not None
        for name, images in zip(INPUTS, (batch.infrared, batch.visible), strict=True):
            count, _, *sides = self._size.shapes[name]
            target = self._host[name].view().reshape(count, *sides)
            for plane, image in zip(target, images, strict=True):
                height, width = image.shape
                plane[:height, :width] = image
                plane[:height, width:] = image[:, -1:]
                plane[height:] = plane[height - 1]
        new_grid = self._size.raw is not None and self._write_grids(batch, self._size.raw, grids)
        try:
            if new_grid:
                self._cuda.copy_in(
                    self._device[SAMPLING_GRID], self._host[SAMPLING_GRID], self._bytes[SAMPLING_GRID], self._stream
                )
            if self._graph is not None:
                self._cuda.launch(self._graph, self._stream)
            else:
                self._enqueue(self._stream)
        except Exception:
            self._grid_keys = []  # the grids may not have been copied
            raise
        finally:  # work started before a failure still uses the buffers; the event marks its end
            self._cuda.record(self._event, self._stream)

    def _write_grids(self, batch: FusionBatch, raw: tuple[int, int], grids: GridCache) -> bool:
        """Writes the sampling grids of the batch into pinned memory; false if they are there already."""
        keys, found = grids.of_batch(batch, raw, self._padded[1:])
        if keys == self._grid_keys:
            return False
        target = self._host[SAMPLING_GRID].view().view(np.float32).reshape(*self._padded, 2)
        for plane, grid in zip(target, found, strict=True):
            plane[:] = grid
        self._grid_keys = keys
        return True

    def _enqueue(self, stream: int) -> None:
        for name in INPUTS:
            self._copy_in(name, stream)
        assert self._context is not None
        self._context.execute(stream)
        self._cuda.copy_out(self._host[OUTPUT], self._device[OUTPUT], self._size_bytes, stream)

    def _copy_in(self, name: str, stream: int) -> None:
        self._cuda.copy_in(self._device[name], self._host[name], self._bytes[name], stream)

    def wait(self) -> None:
        """Blocks until the request has completed; raises :class:`EngineError` if it failed."""
        assert self._event is not None
        self._cuda.wait(self._event)

    def images(self, height: int, width: int) -> list[Luma8]:
        """The fused images, HxW uint8 each, copied; only after :meth:`wait`."""
        fused = self._host[OUTPUT].view().reshape(self._padded)
        return [np.array(image[:height, :width]) for image in fused]

    def finished(self) -> None:
        """To be called by the owner after a successful request: makes the next one cheaper."""
        self.warm = True
        self._try_capture()

    def _try_capture(self) -> None:
        """Captures the request into a CUDA graph after its first run, in which TensorRT initialises."""
        assert self._stream is not None and self._context is not None
        if self._graph is not None or not self._capture:
            return
        self._capture = False
        if not self._cuda.has_graphs or not self._context.capturable(self._stream):
            return
        try:
            self._cuda.begin_capture(self._stream)
            try:
                self._enqueue(self._stream)
            except Exception:
                self._cuda.destroy_graph(self._cuda.end_capture(self._stream))
                raise
            self._graph = self._cuda.end_capture(self._stream)
        except Exception as error:  # noqa: BLE001 - a failed capture must not lose the result
            _LOG.info("no CUDA graph for %s, each request is launched call by call: %s", self._padded, error)

    def close(self) -> None:
        """Frees everything; the request must have completed. A failure does not stop the rest from being freed."""
        cuda = self._cuda
        with ExitStack() as last_first:
            if self._stream is not None:
                last_first.callback(cuda.destroy_stream, self._stream)
            if self._event is not None:
                last_first.callback(cuda.destroy_event, self._event)
            for address in self._device.values():
                last_first.callback(cuda.free, address)
            for buffer in self._host.values():
                last_first.callback(buffer.close)
            if self._context is not None:
                last_first.callback(self._context.close)
            if self._graph is not None:
                last_first.callback(cuda.destroy_graph, self._graph)
            self._host, self._device = {}, {}
            self._graph = self._event = self._stream = self._context = None
