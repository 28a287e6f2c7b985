"""A fake of the TensorRT and TensorRT-RTX modules, as far as a loaded plan uses them.

It has the rules of NVIDIA's reference that mistakes break silently, or only on some GPU: contexts allocate for the
largest shapes unless the memory is user-managed; a context has no shapes before its profile is set, and does not
execute without enough memory for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from fusepipe.engines.backends.tensorrt.library import Library

BYTES_PER_PIXEL = 16
LARGEST = 1920 * 1088
"""Pixels of the largest shapes of the plan."""
COMPILED = 10
"""Bytes that each compiled shape adds to RTX's runtime cache."""


class Kernels:
    """TensorRT-RTX's runtime cache: bytes that grow when something is compiled."""

    def __init__(self, *, accepts: bool) -> None:
        self.content, self.accepts, self.offered = b"", accepts, False

    def deserialize(self, content: bytes) -> bool:
        self.offered = True
        self.content = content if self.accepts else self.content
        return self.accepts

    def serialize(self) -> bytearray:
        return bytearray(self.content)


class Config:
    """A runtime configuration; a context keeps a copy of what was set when it was created."""

    def __init__(self, library: FakeTensorRt) -> None:
        self._library = library
        self.allocation = "static"
        self.kernels: Kernels | None = None
        self.dynamic_shapes_kernel_specialization_strategy = "lazy"
        self.cuda_graph_strategy = "disabled"
        if library.rtx:
            self.create_runtime_cache: Callable[[], Kernels] = lambda: library.kernels
            self.set_runtime_cache: Callable[[Kernels], bool] = self._set_kernels

    def set_execution_context_allocation_strategy(self, allocation: str) -> None:
        self.allocation = allocation

    def _set_kernels(self, kernels: Kernels) -> bool:
        self.kernels = kernels
        return True


class Context:
    """An execution context."""

    def __init__(self, library: FakeTensorRt, allocation: str, config: Config | None) -> None:
        self._library, self.allocation = library, allocation
        self.strategy = config.dynamic_shapes_kernel_specialization_strategy if config else ""
        self.graphs = config.cuda_graph_strategy if config else ""
        self._profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory = LARGEST * BYTES_PER_PIXEL if allocation == "static" else 0

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = profile
        return profile == 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._profile is None or math.prod(shape) > LARGEST:
            return False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        if not self.shapes:
            self._library.log.append("[executionContext.cpp] shapes are not specified")
            return 0
        return self._library.bytes_per_pixel * max(math.prod(shape) for shape in self.shapes.values())

    def set_device_memory(self, address: int, size: int) -> None:
        assert self.allocation == "user-managed"
        self._memory = size

    def execute_async_v3(self, stream: int) -> bool:
        if self._memory < self.update_device_memory_size_for_shapes() or not self._addresses:
            self._library.log.append("[executionContext.cpp] the device memory is too small")
            return False
        if self._library.rtx:
            self._library.kernels.content += bytes(COMPILED)
        return True


class Inspector:
    """The engine inspector: shows formats only for a context whose shapes are set."""

    execution_context: Context | None = None

    def get_engine_information(self, form: str) -> str:
        shaped = self.execution_context is not None and set(self.execution_context.shapes) == {"infrared", "visible"}
        output = {"Name": "fused", "Format/Datatype": "Half" if shaped else "N/A due to dynamic shapes"}
        layer = {"Name": "__myl_Conv", "LayerType": "kgen", "Outputs": [output]}
        return json.dumps({"Layers": [layer], "Bindings": ["infrared"]}) if form == "json" else ""


class FakeTensorRt:
    """The module, and the runtime and engine in one. ``memory_bytes`` is free on the GPU.

    ``user_managed``: the library has that allocation strategy (from 10.0; sizes can be given from 10.1).
    ``refuses``: it cannot load the plan. ``accepts``: cached kernels are for this GPU.
    """

    def __init__(
        self,
        *,
        rtx: bool = True,
        memory_bytes: int = 1 << 40,
        user_managed: bool = True,
        runtime_config: bool = True,
        refuses: bool = False,
        accepts: bool = True,
        bytes_per_pixel: int = BYTES_PER_PIXEL,
    ) -> None:
        self.rtx, self.memory_bytes, self.refuses = rtx, memory_bytes, refuses
        self.bytes_per_pixel = bytes_per_pixel
        self.kernels = Kernels(accepts=accepts)
        self.contexts: list[Context] = []
        self.log: list[str] = []
        if rtx or runtime_config:
            self.create_runtime_config = lambda: Config(self)
        contexts = SimpleNamespace(set_device_memory=None) if user_managed else SimpleNamespace()
        self.module: Any = SimpleNamespace(Runtime=lambda logger: self, IExecutionContext=contexts)
        self.module.TensorIOMode = SimpleNamespace(INPUT="input")
        self.module.LayerInformationFormat = SimpleNamespace(JSON="json")
        if user_managed:
            self.module.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user-managed")
        if rtx:
            self.module.ComputeCapability = SimpleNamespace()
            self.module.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph")
            self.module.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager", LAZY="lazy")

    @property
    def library(self) -> Library:
        """What ``load_library`` returns."""
        return Library("tensorrt-rtx" if self.rtx else "tensorrt", self.module, "1.7", None, self.log)

    # -- the engine inspector

    num_io_tensors = 3

    def get_tensor_name(self, index: int) -> str:
        return ("infrared", "visible", "fused")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "output" if name == "fused" else "input"

    def create_engine_inspector(self) -> Inspector:
        return Inspector()

    def deserialize_cuda_engine(self, plan: bytes) -> FakeTensorRt | None:
        return None if self.refuses else self

    def create_execution_context(self, how: Config | str = "static") -> Context | None:
        config = how if isinstance(how, Config) else None
        allocation = config.allocation if config is not None else str(how)
        if allocation == "static":
            self.memory_bytes -= LARGEST * BYTES_PER_PIXEL
            if self.memory_bytes < 0:
                self.log.append("[defaultAllocator.cpp] Requested size is out of memory")
                return None
        self.contexts.append(Context(self, allocation, config))
        return self.contexts[-1]
