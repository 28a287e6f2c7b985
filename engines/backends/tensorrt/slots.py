"""Buffers, stream and context of one request: what the TensorRT runtime has two of for each size.

The thread that made a slot uses and closes it. A request goes ``start`` -> ``done`` until true -> ``images``.
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
from fusepipe.engines.tensor_names import INPUTS, OUTPUT, PLACES
from fusepipe.engines.warp_grid import WarpGrids

_LOG = logging.getLogger(__name__)
Padded = tuple[int, int, int]  # (batch, height, width)
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class SlotSize:
    """Visible images of one padded size; and the (height, width) of raw infrared ones where the plan registers."""

    padded: Padded
    raw: tuple[int, int] | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The inputs in order, N x 1 x H x W uint8, and N x H x W x 2 float32 for the places."""
        count, height, width = self.padded
        image = (count, 1, height, width)
        if self.raw is None:
            return dict.fromkeys(INPUTS, image)
        return {INPUTS[0]: (count, 1, *self.raw), INPUTS[1]: image, PLACES: (*self.padded, 2)}


class Slot:
    """One request's resources for one size: the inputs and the output, pinned and on the device.

    After the first run the copies and the computation are captured into one CUDA graph, where the context
    allows it: a request is then a single launch. The places of a warp are copied only when the warp is another one.
    """

    def __init__(self, cuda: Cuda, plan: Plan, size: SlotSize) -> None:
        self._cuda, self._size, self._padded = cuda, size, size.padded
        self._size_bytes = math.prod(size.padded)
        self._warped_by: list[str] = []
        self._context: PlanContext | None = plan.context()
        self._stream: int | None = None
        self._event: int | None = None
        self._graph: int | None = None
        self._capture = True
        self._host: dict[str, HostBuffer] = {}
        self._device: dict[str, int] = {}
        try:
            self._stream = cuda.stream()
            self._event = cuda.event()
            self._bytes = {
                name: math.prod(shape) * (_FLOAT_BYTES if name == PLACES else 1) for name, shape in size.shapes.items()
            }
            for name, size_bytes in (*self._bytes.items(), (OUTPUT, self._size_bytes)):
                self._host[name] = cuda.pinned(size_bytes)
                self._device[name] = cuda.allocate(size_bytes)
            assert self._context is not None
            for name, shape in size.shapes.items():
                self._context.set_input(name, shape, self._device[name])
            self._context.set_output(OUTPUT, self._device[OUTPUT])
        except Exception:
            self.close()
            raise

    @property
    def warm(self) -> bool:
        """Whether a request has run: the next one takes no longer than any other."""
        return not self._capture

    def black_batch(self) -> FusionBatch:
        """A request of this size, to run before there are images."""
        (count, _, *visible), (_, _, *infrared) = (self._size.shapes[name] for name in reversed(INPUTS))
        images = [[np.zeros(sides, np.uint8)] * count for sides in (infrared, visible)]
        return FusionBatch(images[0], images[1], warps=[None] * count if self._size.raw is not None else ())

    def start(self, batch: FusionBatch, grids: WarpGrids) -> None:
        """Copies HxW images into pinned memory, edges repeated up to the padded size, and starts the request.

        Raw infrared images are whole: :func:`fusepipe.engines.warp_grid.raw_infrared` was applied.
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
        moved = self._size.raw is not None and self._place(batch, self._size.raw, grids)
        try:
            if moved:
                self._cuda.copy_in(self._device[PLACES], self._host[PLACES], self._bytes[PLACES], self._stream)
            if self._graph is not None:
                self._cuda.launch(self._graph, self._stream)
            else:
                self._enqueue(self._stream)
        except Exception:
            self._warped_by = []  # the places may not have been copied
            raise
        finally:  # what did start before a failure still uses the buffers: the event tells when it is over
            self._cuda.record(self._event, self._stream)

    def _place(self, batch: FusionBatch, raw: tuple[int, int], grids: WarpGrids) -> bool:
        """Writes the places of the batch's warps where they are not there already; whether it did."""
        warps = batch.warps or [None] * self._padded[0]
        found = [grids.of(warp, raw, self._padded[1:]) for warp in warps]
        keys = [key for key, _ in found]
        if keys == self._warped_by:
            return False
        target = self._host[PLACES].view().view(np.float32).reshape(*self._padded, 2)
        for plane, (_, grid) in zip(target, found, strict=True):
            plane[:] = grid
        self._warped_by = keys
        return True

    def _enqueue(self, stream: int) -> None:
        for name in INPUTS:
            self._cuda.copy_in(self._device[name], self._host[name], self._bytes[name], stream)
        assert self._context is not None
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
        assert self._stream is not None and self._context is not None
        if self._graph is not None or not self._capture:
            return
        self._capture = False
        if not self._context.capturable(self._stream):
            return
        try:
            self._cuda.begin_capture(self._stream)
            try:
                self._enqueue(self._stream)
            except Exception:
                self._cuda.destroy_graph(self._cuda.end_capture(self._stream))
                raise
            self._graph = self._cuda.end_capture(self._stream)
        except Exception as error:  # noqa: BLE001 - the result is there: no fault of the capture may lose it
            _LOG.info("no CUDA graph for %s, requests are started call by call: %s", self._padded, error)

    def close(self) -> None:
        """Frees everything; the request has to be done. What fails keeps nothing else from being freed."""
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
