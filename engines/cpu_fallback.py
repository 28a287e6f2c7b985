"""A GPU engine that ``auto`` selected, and the CPU in its place if a size does not fit into the GPU's memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from fusepipe.core.errors import EngineError, FusepipeError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import Fuser, FuserBase, FusionBatch, Ticket

_LOG = logging.getLogger(__name__)


class CpuFallbackFuser(FuserBase):
    """A :class:`fusepipe.core.fuser.Fuser` that changes to the CPU at :meth:`prepare`, never in the middle of a run.

    ``open_cpu`` gets the reason. Engines that register the infrared image stay on the GPU: the pipeline has left the
    registration to them.
    """

    def __init__(self, gpu: Fuser, open_cpu: Callable[[str], Fuser]) -> None:
        super().__init__()
        self._fuser, self._open_cpu = gpu, open_cpu
        self._on_gpu = True
        self._prepared: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        self.info = gpu.info

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        """Prepares a size on the GPU, or on the CPU if that fails; raises :class:`EngineError` if both fail."""
        self._require_open()
        with self._lock:
            try:
                self._fuser.prepare(height, width, batch)
            except EngineError as error:
                if not self._on_gpu or self.info.accepts_warp:
                    raise
                self._change(height, width, batch, error)
            self._prepared.add((height, width))

    def _change(self, height: int, width: int, batch: int, error: EngineError) -> None:
        gpu = self._fuser
        try:
            cpu = self._open_cpu(f"auto: {gpu.info.device} cannot fuse {width}x{height} ({error})")
            try:
                cpu.prepare(height, width, batch)
            except BaseException:
                cpu.close()
                raise
        except FusepipeError as also:
            error.add_note(f"and on the CPU: {also}")
            raise error from also
        _LOG.warning("%s cannot fuse %dx%d, using the CPU instead: %s", gpu.info.device, width, height, error)
        self._fuser, self.info, self._on_gpu = cpu, cpu.info, False
        try:
            gpu.close()
        except EngineError as problem:
            _LOG.warning("closing the engine on %s: %s", gpu.info.device, problem)

    def submit(self, batch: FusionBatch) -> Ticket:
        """See :class:`fusepipe.core.fuser.Fuser`."""
        self._require_open()
        return self._fuser.submit(batch)

    def _fuse_luma(self, infrared: Luma8, visible: Luma8) -> Luma8:
        self._require_open()
        height, width = visible.shape
        if (height, width) not in self._prepared:
            self.prepare(height, width)
        fused: Luma8 = self._fuser.fuse(infrared, visible)
        return fused

    def close(self) -> None:
        with self._lock:
            super().close()
            self._fuser.close()
