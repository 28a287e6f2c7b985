"""A fake of a TensorRT plan for tests: runs its ONNX graph on the CPU, in the memory of a fake CUDA device."""

from __future__ import annotations

import math

import numpy as np

from fusepipe.engines.backends.cuda.fake import FakeCuda, MisuseError, Work
from fusepipe.engines.backends.openvino.network import GraphRunner
from fusepipe.engines.backends.tensorrt.plan import Dimensions, PlanContext
from fusepipe.engines.tensor_names import INPUTS, OUTPUT, SAMPLING_GRID

SCRATCH_BYTES = 32
"""Scratch memory of a context, per pixel of the visible images."""


class FakePlan:
    """A fake :class:`fusepipe.engines.backends.tensorrt.plan.Plan`; reads and writes a :class:`FakeCuda`'s memory.

    ``capturable`` is what its contexts answer: contexts that may not be captured, as those of TensorRT-RTX, raise
    :class:`MisuseError` if they are. ``eager`` has the kernel strategy of each context, ``saves`` counts the saves.
    """

    def __init__(self, cuda: FakeCuda, onnx: bytes, *, capturable: bool = True) -> None:
        self._cuda, self._runner, self._capturable = cuda, GraphRunner(onnx), capturable
        self._handle = cuda.new_handle("plan")
        self._contexts: list[_FakeContext] = []
        self.eager: list[bool] = []
        self.saves = 0
        self.closed = False

    def context(self, stream: int, *, eager: bool) -> PlanContext:
        if self.closed:
            raise MisuseError("a context was created from a closed plan")
        self._contexts.append(_FakeContext(self._cuda, self._runner, self._capturable))
        self.eager.append(eager)
        return self._contexts[-1]

    def save_kernels(self) -> None:
        self._cuda.owned()
        self.saves += 1

    def close(self) -> None:
        self._cuda.owned()
        self._cuda.forget(self._handle, "plan")
        if not all(context.closed for context in self._contexts):
            raise MisuseError("a plan was closed before its contexts")
        self.closed = True


class _FakeContext:
    def __init__(self, cuda: FakeCuda, runner: GraphRunner, capturable: bool) -> None:
        self._cuda, self._runner, self._capturable = cuda, runner, capturable
        self._addresses: dict[str, int] = {}
        self._dimensions: dict[str, Dimensions] = {}
        self._scratch = (0, 0)
        self._handle = cuda.new_handle("context")
        self.closed = False

    def set_input(self, name: str, dimensions: Dimensions, address: int) -> None:
        self._dimensions[name] = dimensions
        self._addresses[name] = address

    def set_output(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def scratch_bytes(self) -> int:
        missing = [name for name in INPUTS if name not in self._dimensions]
        if missing:
            raise MisuseError(f"the scratch memory was asked for before the shape of {missing[0]} was set")
        return SCRATCH_BYTES * math.prod(self._dimensions[INPUTS[1]])

    def set_scratch(self, address: int, size_bytes: int) -> None:
        self._cuda.bytes_at(address, size_bytes)
        self._scratch = (address, size_bytes)

    def execute(self, stream: int) -> None:
        self._cuda.owned()
        if self.closed:
            raise MisuseError("a context was used after it was closed")
        if self._cuda.capturing(stream) and not self._capturable:
            raise MisuseError("a context that cannot be captured was captured")
        addresses, dimensions = dict(self._addresses), dict(self._dimensions)
        scratch, needed = self._scratch, self.scratch_bytes()
        if scratch[1] < needed:
            raise MisuseError(f"a context was executed with {scratch[1]} bytes of scratch memory; it needs {needed}")

        def work() -> None:
            if self.closed:
                raise MisuseError("a context was closed while it executes")
            self._cuda.bytes_at(*scratch)[:] = 0xC3
            feeds = {}
            for name, shape in dimensions.items():
                kind = np.dtype(np.float32 if name == SAMPLING_GRID else np.uint8)
                size_bytes = math.prod(shape) * kind.itemsize
                feeds[name] = self._cuda.bytes_at(addresses[name], size_bytes).view(kind).reshape(shape)
            fused = np.asarray(self._runner.computed(feeds)[OUTPUT], np.uint8).reshape(-1)
            self._cuda.bytes_at(addresses[OUTPUT], fused.size)[:] = fused

        self._cuda.enqueue(stream, Work(work, scratch=scratch[0]))

    def capturable(self, stream: int) -> bool:
        return self._capturable

    def close(self) -> None:
        self._cuda.owned()
        self._cuda.forget(self._handle, "context")
        self.closed = True
