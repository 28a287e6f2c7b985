"""OpenVINO requests with their buffers, for whole images or a pyramid network's coarse level, and their tickets."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.buffers import BufferPool
from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import FusionBatch
from fusepipe.engines.backends.openvino.compute_gate import GATE
from fusepipe.engines.backends.openvino.library import openvino
from fusepipe.engines.backends.openvino.network import last_line
from fusepipe.engines.backends.openvino.pyramid import Pyramid
from fusepipe.engines.sampling_grid import GridCache, prefiltered_infrared
from fusepipe.engines.tensor_names import COARSE_INPUTS, COARSE_OUTPUTS, SAMPLING_GRID

WAIT_S = 600.0  # the large baselines take minutes per pair on a loaded machine
PYRAMIDS = 4
"""Sizes of images whose pyramids a slot keeps: about 6 bytes a pixel each."""


class Slot(ABC):
    """One infer request; busy while ``ticket`` is unfinished."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.ticket: OpenVinoTicket | None = None
        self._inputs: dict[str, NDArray[Any]] = {}

    @abstractmethod
    def start(self, batch: FusionBatch, padded: tuple[int, int, int]) -> None:
        """Copies the images in and begins; ``padded`` is (batch, height, width) of what was compiled."""

    @abstractmethod
    def collect(self, size: tuple[int, int]) -> list[Luma8]:
        """The fused images, HxW uint8 of ``size`` (height, width), once the request has finished.

        They are the caller's; their memory is recycled once nobody refers to them.
        """

    def _buffer(self, name: str, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
        if name not in self._inputs or self._inputs[name].shape != shape:
            self._inputs[name] = np.empty(shape, kind)
            self.request.set_tensor(name, openvino.Tensor(self._inputs[name], shared_memory=True))
        return self._inputs[name]


class ImageSlot(Slot):
    """A request of the whole graph; ``grids`` is for graphs with the warp."""

    def __init__(self, request: Any, grids: GridCache | None) -> None:
        super().__init__(request)
        self._grids = grids
        self._grid_keys: list[str] = []
        self._fused = BufferPool()

    def start(self, batch: FusionBatch, padded: tuple[int, int, int]) -> None:
        count, height, width = padded
        if self._grids is None:
            self._copy("infrared", batch.infrared, (count, 1, height, width))
        else:
            images = prefiltered_infrared(batch)
            self._copy("infrared", images, (count, 1, *images[0].shape))
            self._write_grids(batch, images[0].shape, padded, self._grids)
        self._copy("visible", batch.visible, (count, 1, height, width))
        self.request.start_async()

    def collect(self, size: tuple[int, int]) -> list[Luma8]:
        height, width = size
        images: list[Luma8] = []
        for output in self.request.get_output_tensor(0).data:
            images.append(self._fused.take(size))
            np.copyto(images[-1], output[0, :height, :width])
        return images

    def _copy(self, name: str, images: Sequence[Luma8], shape: tuple[int, ...]) -> None:
        for target, image in zip(self._buffer(name, shape, np.uint8), images, strict=True):
            _fill(target[0], image)

    def _write_grids(
        self, batch: FusionBatch, infrared: tuple[int, ...], padded: tuple[int, int, int], grids: GridCache
    ) -> None:
        keys, found = grids.of_batch(batch, (infrared[0], infrared[1]), padded[1:])
        if keys != self._grid_keys:
            buffer = self._buffer(SAMPLING_GRID, (*padded, 2), np.float32)
            for target, grid in zip(buffer, found, strict=True):
                target[:] = grid
            self._grid_keys = keys


class PyramidSlot(Slot):
    """A request of a pyramid network's coarse part; the finer levels are computed here, before and after it.

    ``scratch``: of all requests of one fuser, which one thread at a time computes levels for, as a rule.
    """

    def __init__(self, request: Any, sharpness: Sequence[float], scratch: BufferPool) -> None:
        super().__init__(request)
        self._sharpness, self._scratch = sharpness, scratch
        self._pyramids: dict[tuple[int, int, int], list[Pyramid]] = {}
        self._under_way: list[Pyramid] = []

    def start(self, batch: FusionBatch, padded: tuple[int, int, int]) -> None:
        self._under_way = self._for(batch)
        shape = (padded[0], 1, *padded[1:])
        targets = [self._buffer(name, shape, np.float32) for name in COARSE_INPUTS]
        pairs = zip(self._under_way, batch.infrared, batch.visible, strict=True)
        with GATE.passed(batch.shape[0] * batch.shape[1]):
            for index, (pyramid, infrared, visible) in enumerate(pairs):
                for target, image in zip(targets, pyramid.reduce(infrared, visible), strict=True):
                    target[index, 0] = image
        self.request.start_async()

    def collect(self, size: tuple[int, int]) -> list[Luma8]:
        fused, gates, gains = (self.request.get_tensor(name).data for name in COARSE_OUTPUTS)
        with GATE.passed(size[0] * size[1]):
            return [
                pyramid.add_detail(fused[index, 0], gates[index], gains[index])
                for index, pyramid in enumerate(self._under_way)
            ]

    def _for(self, batch: FusionBatch) -> list[Pyramid]:
        key = (*batch.shape, batch.visible_levels)
        made = self._pyramids.setdefault(key, [])
        if len(self._pyramids) > PYRAMIDS:
            del self._pyramids[next(iter(self._pyramids))]
        while len(made) < len(batch.visible):
            made.append(Pyramid(*key[:2], self._sharpness, key[2], self._scratch))
        return made[: len(batch.visible)]


def _fill(target: Luma8, image: Luma8) -> None:
    """Copies HxW into the top left of a buffer at least that large; the rest repeats the edge."""
    height, width = image.shape
    target[:height, :width] = image
    target[:height, width:] = image[:, -1:]
    target[height:] = target[height - 1]


class OpenVinoTicket:
    """The result of one request; fetching it frees the request's slot for the next."""

    def __init__(self, slot: Slot, size: tuple[int, int]) -> None:
        self._slot: Slot | None = slot
        self._size = size
        self._lock = threading.Lock()
        self._images: list[Luma8] | None = None
        self._error: EngineError | None = None

    @property
    def done(self) -> bool:
        return self._images is not None or self._error is not None

    def result(self, timeout_s: float = WAIT_S) -> list[Luma8]:
        """See :class:`fusepipe.core.fuser.Ticket`; any thread."""
        deadline = time.monotonic() + timeout_s
        # Another thread may be fetching: it holds the lock until it has the images.
        if not self._lock.acquire(timeout=max(timeout_s, 0.0)):
            raise self._late(timeout_s)
        try:
            if self._slot is not None:
                self._fetch(self._slot, deadline, timeout_s)
        finally:
            self._lock.release()
        if self._error is not None:
            raise self._error
        assert self._images is not None  # one of the two is set by _fetch
        return self._images

    def _fetch(self, slot: Slot, deadline: float, timeout_s: float) -> None:
        try:
            if not slot.request.wait_for(max(0, round((deadline - time.monotonic()) * 1000))):
                raise self._late(timeout_s)
            self._images = slot.collect(self._size)
        except RuntimeError as error:
            self._error = EngineError(f"OpenVINO failed: {last_line(error)}")
            self._error.__cause__ = error
        self._slot = None  # a kept ticket must not keep the buffers

    def _late(self, timeout_s: float) -> EngineError:
        return EngineError(f"the engine did not answer within {timeout_s:g} s; is the machine overloaded?")
