"""A fake of a TensorRT plan for tests: runs its ONNX graph on the CPU, in the memory of a fake CUDA device."""

from __future__ import annotations

import math

import numpy as np

from fusepipe.engines.backends.cuda.fake import FakeCuda, MisuseError
from fusepipe.engines.backends.openvino.network import GraphRunner
from fusepipe.engines.backends.tensorrt.plan import Dimensions, PlanContext
from fusepipe.engines.tensor_names import OUTPUT, SAMPLING_GRID


class FakePlan:
    """A fake :class:`fusepipe.engines.backends.tensorrt.plan.Plan`; reads and writes a :class:`FakeCuda`'s memory."""

    def __init__(self, cuda: FakeCuda, onnx: bytes) -> None:
        self._cuda, self._runner = cuda, GraphRunner(onnx)
        self._handle = cuda.new_handle("plan")
        self._contexts: list[_FakeContext] = []
        self.closed = False

    def context(self) -> PlanContext:
        if self.closed:
            raise MisuseError("a context was created from a closed plan")
        self._contexts.append(_FakeContext(self._cuda, self._runner))
        return self._contexts[-1]

    def close(self) -> None:
        self._cuda.owned()
        self._cuda.forget(self._handle, "plan")
        if not all(context.closed for context in self._contexts):
            raise MisuseError("a plan was closed before its contexts")
        self.closed = True


class _FakeContext:
    def __init__(self, cuda: FakeCuda, runner: GraphRunner) -> None:
        self._cuda, self._runner = cuda, runner
        self._addresses: dict[str, int] = {}
        self._dimensions: dict[str, Dimensions] = {}
        self._handle = cuda.new_handle("context")
        self.closed = False

    def set_input(self, name: str, dimensions: Dimensions, address: int) -> None:
        self._dimensions[name] = dimensions
        self._addresses[name] = address

    def set_output(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def execute(self, stream: int) -> None:
        self._cuda.owned()
        if self.closed:
            raise MisuseError("a context was used after it was closed")
        addresses, dimensions = dict(self._addresses), dict(self._dimensions)

        def work() -> None:
            if self.closed:
                raise MisuseError("a context was closed while it executes")
            feeds = {}
            for name, shape in dimensions.items():
                kind = np.dtype(np.float32 if name == SAMPLING_GRID else np.uint8)
                size_bytes = math.prod(shape) * kind.itemsize
                feeds[name] = self._cuda.bytes_at(addresses[name], size_bytes).view(kind).reshape(shape)
            fused = np.asarray(self._runner.computed(feeds)[OUTPUT], np.uint8).reshape(-1)
            self._cuda.bytes_at(addresses[OUTPUT], fused.size)[:] = fused

        self._cuda.enqueue(stream, work)

    def capturable(self, stream: int) -> bool:
        return True

    def close(self) -> None:
        self._cuda.owned()
        self._cuda.forget(self._handle, "context")
        self.closed = True
