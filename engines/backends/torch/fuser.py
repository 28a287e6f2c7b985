"""Networks in PyTorch, layer by layer: the reference for other backends, not a fast backend.

On the CPU in fp32. Needs ``torch`` and ``onnx``.
"""

from __future__ import annotations

import numpy as np
import torch

from fusepipe.core.errors import UsageError
from fusepipe.core.fuser import FuserBase, FuserInfo, FusionBatch, ReadyTicket, Ticket
from fusepipe.engines.backends.torch.interpreter import TorchGraph
from fusepipe.engines.onnx_graph import multiple_of, read_graph

MAX_BATCH = 16


class TorchFuser(FuserBase):
    """A :class:`fusepipe.core.fuser.Fuser` of one ONNX network in PyTorch, fp32 on the CPU; synchronous.

    Raises :class:`EngineError` for a graph with unsupported operators, :class:`UsageError` for a precision other than
    fp32 or auto.
    """

    def __init__(self, model: str, onnx: bytes, precision: str = "auto", *, reason: str = "") -> None:
        super().__init__()
        if precision not in ("auto", "fp32"):
            raise UsageError(f"the backend torch is the fp32 reference; it has no {precision = }")
        graph = read_graph(onnx, model)
        self._multiple = multiple_of(graph)
        self._graph = TorchGraph(graph)
        self.info = FuserInfo(
            model=model, backend="torch", precision="fp32", device="cpu", reason=reason, max_batch=MAX_BATCH
        )

    def submit(self, batch: FusionBatch) -> Ticket:
        """See :class:`fusepipe.core.fuser.Fuser`; computes synchronously."""
        self._require_open()
        require_plain_batch(batch)
        height, width = batch.shape
        pad = ((0, 0), (0, -height % self._multiple), (0, -width % self._multiple))
        feeds = [
            torch.from_numpy(np.pad(np.stack(images), pad, mode="edge")[:, None])
            for images in (batch.infrared, batch.visible)
        ]
        fused = self._graph(*feeds)[:, 0, :height, :width].numpy()
        return ReadyTicket([image.copy() for image in fused])


def require_plain_batch(batch: FusionBatch) -> None:
    """Raises :class:`UsageError` for a batch with warps, with reduced infrared images, or that is too large."""
    if any(warp is not None for warp in batch.warps):
        raise UsageError("this fuser takes registered infrared images: apply the warp first")
    if batch.visible_levels:
        raise UsageError(f"this fuser takes infrared images of the visible size: {batch.visible_levels = }")
    if len(batch.visible) > MAX_BATCH:
        raise UsageError(f"{len(batch.visible)} pairs are more than this fuser's {MAX_BATCH = }")
