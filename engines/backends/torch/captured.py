"""Networks in PyTorch on an NVIDIA GPU, for machines with PyTorch and without TensorRT.

The ONNX graph is interpreted as in :mod:`fusepipe.engines.backends.torch.interpreter`: convolutions in fp16 by
autocast, weights in ``channels_last``, and each size captured into a CUDA graph, so that the hundreds of launches of a
network cost one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fusepipe.core.errors import EngineError, FusepipeError, UsageError
from fusepipe.core.fuser import FuserBase, FuserInfo, FusionBatch, ReadyTicket, Ticket
from fusepipe.engines.backends.torch.fuser import MAX_BATCH, require_plain_batch
from fusepipe.engines.backends.torch.interpreter import TorchGraph
from fusepipe.engines.onnx_graph import multiple_of, read_graph

PRECISIONS = ("auto", "fp32", "fp16")
CACHED_SIZES = 8
_WARM_UPS = 3  # before a capture, as PyTorch's documentation has it: cuDNN selects its kernels meanwhile

Images = tuple[Tensor, Tensor]
Function = Callable[[Tensor, Tensor], Tensor]


class Captured(Protocol):
    """A function captured for fixed input tensors: each call computes it from their present content."""

    def __call__(self) -> Tensor:
        """The output tensor, overwritten by the next call."""


Capture = Callable[[Function, Images], Captured]


def cuda_available() -> bool:
    """Whether this PyTorch was built for CUDA and finds a GPU."""
    return bool(torch.cuda.is_available())


def call_directly(function: Function, images: Images) -> Captured:
    """No capture: each call launches every kernel, for comparison."""
    return lambda: function(*images)


def capture_cuda_graph(function: Function, images: Images) -> Captured:
    """Captures into a CUDA graph, after warming up on a side stream, on the GPU of the images."""
    with torch.cuda.device(images[0].device):  # streams and captures are of the current one
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                function(*images)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = function(*images)

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


class TorchCudaFuser(FuserBase):
    """A :class:`fusepipe.core.fuser.Fuser` of one ONNX network in PyTorch on a GPU; synchronous.

    ``precision`` is fp16 (``auto``) or fp32. ``device`` and ``capture`` are replaced in tests without a GPU. Raises
    :class:`EngineError` for a graph with unsupported operators or if PyTorch has no GPU, :class:`UsageError` for
    another precision.
    """

    def __init__(
        self,
        model: str,
        onnx: bytes,
        precision: str = "auto",
        *,
        reason: str = "",
        device: str = "cuda:0",
        capture: Capture = capture_cuda_graph,
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise UsageError(f"the backend torch has no {precision = } on a GPU; it has fp16 and fp32")
        if device.startswith("cuda") and not cuda_available():
            raise EngineError("this PyTorch finds no GPU: pip install a build of PyTorch for CUDA")
        graph = read_graph(onnx, model)
        self._multiple, self._half = multiple_of(graph), precision != "fp32"
        self._device, self._capture = torch.device(device), capture
        self._graph = TorchGraph(graph, self._device, channels_last=True)
        self._sizes: OrderedDict[tuple[int, int, int], tuple[Images, Captured]] = OrderedDict()
        self._lock = threading.Lock()  # the captured tensors are shared by all callers
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else device
        self.info = FuserInfo(
            model=model,
            backend="torch",
            precision="fp16" if self._half else "fp32",
            device=name,
            reason=reason,
            max_batch=MAX_BATCH,
        )

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        """Captures a size; raises :class:`EngineError` if it does not fit into the GPU's memory."""
        self._require_open()
        black = [np.zeros((height, width), np.uint8)] * batch
        self.submit(FusionBatch(black, black))

    def submit(self, batch: FusionBatch) -> Ticket:
        """See :class:`fusepipe.core.fuser.Fuser`; computes synchronously."""
        self._require_open()
        require_plain_batch(batch)
        height, width = batch.shape
        pad = ((0, 0), (0, -height % self._multiple), (0, -width % self._multiple))
        stacked = [np.pad(np.stack(images), pad, mode="edge")[:, None] for images in (batch.infrared, batch.visible)]
        try:
            with self._lock:
                inputs, captured = self._captured(stacked[0].shape)
                for tensor, images in zip(inputs, stacked, strict=True):
                    tensor.copy_(torch.from_numpy(images))
                # copied before another caller's images overwrite it; cpu() copies from a GPU only
                fused = captured()[:, 0, :height, :width].to("cpu", copy=True).numpy()
        except FusepipeError:
            raise
        except RuntimeError as error:  # CUDA's errors, out of memory among them
            raise EngineError(f"PyTorch cannot compute {width}x{height} on {self.info.device}: {error}") from error
        return ReadyTicket([image.copy() for image in fused])

    def close(self) -> None:
        with self._lock:
            super().close()
            self._sizes.clear()

    def _captured(self, shape: tuple[int, ...]) -> tuple[Images, Captured]:
        """The inputs and the captured function of a shape; the least recently used beyond eight is freed."""
        count, _, height, width = shape
        size = count, height, width
        if size not in self._sizes:
            while len(self._sizes) >= CACHED_SIZES:
                self._sizes.popitem(last=False)
            first, second = (torch.zeros(shape, dtype=torch.uint8, device=self._device) for _ in range(2))
            self._sizes[size] = (first, second), self._capture(self._compute, (first, second))
        self._sizes.move_to_end(size)
        return self._sizes[size]

    def _compute(self, infrared: Tensor, visible: Tensor) -> Tensor:
        # weights cast once more for each call would be kept by autocast's cache beyond the capture
        autocast = torch.autocast(self._device.type, torch.float16, enabled=self._half, cache_enabled=False)
        # cuDNN's default for fp32 is TF32: products with a 10-bit mantissa
        with autocast, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._graph(infrared, visible)
