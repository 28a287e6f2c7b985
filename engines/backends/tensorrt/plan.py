"""A loaded plan: the calls of TensorRT that running it needs, as protocols.

Implemented by :class:`TensorRtPlan`, and on the CPU by :class:`fusepipe.engines.backends.tensorrt.fake.FakePlan`.
The thread that owns the CUDA context makes all calls.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import OutOfGpuMemoryError
from fusepipe.engines.backends.tensorrt.library import Library, load_library
from fusepipe.engines.cache import CompileCache
from fusepipe.engines.manifest import sha256

_LOG = logging.getLogger(__name__)
_PROFILE = 0  # the only optimisation profile of our plans
Dimensions = tuple[int, ...]  # (batch, 1, height, width) of an image


class PlanContext(Protocol):
    """An execution context: shapes and addresses are set once, then it is executed repeatedly."""

    def set_input(self, name: str, dimensions: Dimensions, address: int) -> None: ...
    def set_output(self, name: str, address: int) -> None: ...
    def scratch_bytes(self) -> int:
        """The scratch memory (activations) that it needs for its shapes; after all inputs were set. May be 0."""

    def set_scratch(self, address: int, size_bytes: int) -> None:
        """Device memory of at least :meth:`scratch_bytes`, which nothing else uses while the context executes."""

    def execute(self, stream: int) -> None:
        """Starts the computation in a stream; raises :class:`EngineError` if that fails."""

    def capturable(self, stream: int) -> bool:
        """Whether :meth:`execute` may be captured into a CUDA graph."""

    def close(self) -> None:
        """Frees its GPU memory; before the plan is closed."""


class Plan(Protocol):
    """A loaded plan."""

    def context(self, stream: int, *, eager: bool) -> PlanContext:
        """A context that executes in ``stream``; raises :class:`OutOfGpuMemoryError`.

        ``eager``: kernels for its shapes are compiled before it first executes, instead of in the background while
        generic kernels execute. Only TensorRT-RTX compiles kernels at run time.
        """

    def save_kernels(self) -> None:
        """Caches the kernels compiled so far for the next start."""

    def close(self) -> None:
        """Frees its GPU memory; after all its contexts, before CUDA is closed."""


class _Context:
    """A context whose scratch memory is user-managed, unless the library is too old (``managed`` is false)."""

    def __init__(self, context: Any, library: Library, *, managed: bool) -> None:
        self._context, self._library, self._managed = context, library, managed

    def set_input(self, name: str, dimensions: Dimensions, address: int) -> None:
        if not self._context.set_input_shape(name, dimensions):
            raise EngineError(f"the engine does not accept {name} of shape {dimensions}: build it with another --shape")
        self.set_output(name, address)

    def set_output(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise EngineError(f"the engine has no tensor {name!r}, or rejects its address")

    def scratch_bytes(self) -> int:
        if not self._managed:
            return 0
        self._library.log.clear()
        size = int(self._context.update_device_memory_size_for_shapes())
        if not size and self._library.log:  # 0 is also the answer of a network that needs none
            raise EngineError(f"TensorRT cannot plan its memory: {self._library.complaint()}")
        return size

    def set_scratch(self, address: int, size_bytes: int) -> None:
        if self._managed:
            self._context.set_device_memory(address, size_bytes)

    def execute(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise EngineError(f"TensorRT could not start the computation: {self._library.complaint()}")

    def capturable(self, stream: int) -> bool:
        # TensorRT-RTX captures graphs itself: which of its kernels would be in a capture of ours is not known, and
        # memory that it allocates at run time must not be
        return not self._library.portable

    def close(self) -> None:
        self._context = None  # the binding frees it with the last reference


class TensorRtPlan:
    """A plan of TensorRT or TensorRT-RTX. ``kernels`` caches the kernels that RTX compiles for this GPU.

    ``host_code`` permits host code in the plan: version-compatible plans contain NVIDIA's lean runtime.

    Raises :class:`EngineError`, with the library's reason, if the plan cannot be loaded.
    """

    def __init__(
        self, backend: str, plan: bytes, kernels: CompileCache | None = None, *, host_code: bool = False
    ) -> None:
        self._library = load_library(backend)
        self._cache, self._key = kernels, sha256(plan)
        self._kept: bytes | None = None
        self._kernels: Any = None
        self._configs: dict[bool, Any] = {}  # by eager
        trt = self._library.module
        self._runtime = trt.Runtime(self._library.logger)
        if host_code:
            self._runtime.engine_host_code_allowed = True
        self._library.log.clear()
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:  # it never raises
            raise EngineError(f"{backend} {self._library.version} cannot load the plan: {self._library.complaint()}")
        strategies = getattr(trt, "ExecutionContextAllocationStrategy", None)
        resizable = hasattr(trt.IExecutionContext, "set_device_memory")  # from 10.1
        self._allocation = strategies.USER_MANAGED if strategies is not None and resizable else None

    def _config(self, *, eager: bool) -> Any:
        """The runtime configuration of contexts; ``None`` for libraries without."""
        if eager not in self._configs:
            create = getattr(self._engine, "create_runtime_config", None)
            config = None if create is None else create()
            if config is not None:
                self._configure(config, eager=eager)
            self._configs[eager] = config
        return self._configs[eager]

    def _configure(self, config: Any, *, eager: bool) -> None:
        trt = self._library.module
        if self._allocation is not None:
            config.set_execution_context_allocation_strategy(self._allocation)
        if hasattr(config, "create_runtime_cache"):
            if self._kernels is None:
                self._kernels = self._load_kernels(config)
            config.set_runtime_cache(self._kernels)
        strategies = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is not None:
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER if eager else strategies.LAZY
        graphs = getattr(trt, "CudaGraphStrategy", None)
        if graphs is not None:
            config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE

    def _load_kernels(self, config: Any) -> Any:
        kernels = config.create_runtime_cache()
        self._kept = self._cache.load(self._key) if self._cache is not None else None
        if self._kept is not None and not kernels.deserialize(self._kept):
            _LOG.info("cached kernels are for another GPU, driver or version: compiling again")
        return kernels

    def context(self, stream: int, *, eager: bool) -> PlanContext:
        self._library.log.clear()
        config = self._config(eager=eager)
        if config is not None:
            context = self._engine.create_execution_context(config)
        elif self._allocation is not None:
            context = self._engine.create_execution_context(self._allocation)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise OutOfGpuMemoryError(
                f"TensorRT could not create an execution context, probably for lack of GPU memory: "
                f"{self._library.complaint()}"
            )
        if not context.set_optimization_profile_async(_PROFILE, stream):
            raise EngineError(f"TensorRT rejects the plan's optimisation profile: {self._library.complaint()}")
        return _Context(context, self._library, managed=self._allocation is not None)

    def save_kernels(self) -> None:
        if self._kernels is None or self._cache is None:
            return
        compiled = bytes(memoryview(self._kernels.serialize()))
        if compiled != self._kept:
            self._cache.store(self._key, compiled)
            self._kept = compiled

    def close(self) -> None:
        """Caches RTX's kernels for the next start and frees the engine."""
        try:
            self.save_kernels()
        finally:
            self._configs.clear()
            self._kernels = self._engine = self._runtime = None
