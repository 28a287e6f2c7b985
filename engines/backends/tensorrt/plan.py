"""A loaded plan: the calls of TensorRT that running it needs, as protocols.

Implemented by :class:`TensorRtPlan`, and on the CPU by :class:`fusepipe.engines.backends.tensorrt.fake.FakePlan`.
The thread that owns the CUDA context makes all calls.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.tensorrt.library import load_library
from fusepipe.engines.cache import CompileCache
from fusepipe.engines.manifest import sha256

_LOG = logging.getLogger(__name__)
Dimensions = tuple[int, ...]  # (batch, 1, height, width) of an image


class PlanContext(Protocol):
    """An execution context: shapes and addresses are set once, then it is executed repeatedly."""

    def set_input(self, name: str, dimensions: Dimensions, address: int) -> None: ...
    def set_output(self, name: str, address: int) -> None: ...
    def execute(self, stream: int) -> None:
        """Starts the computation in a stream; raises :class:`EngineError` if that fails."""

    def capturable(self, stream: int) -> bool:
        """Whether :meth:`execute` may be captured into a CUDA graph."""

    def close(self) -> None:
        """Frees its GPU memory; before the plan is closed."""


class Plan(Protocol):
    """A loaded plan."""

    def context(self) -> PlanContext: ...
    def close(self) -> None:
        """Frees its GPU memory; after all its contexts, before CUDA is closed."""


class _Context:
    def __init__(self, context: Any) -> None:
        self._context = context

    def set_input(self, name: str, dimensions: Dimensions, address: int) -> None:
        if not self._context.set_input_shape(name, dimensions):
            raise EngineError(f"the engine does not accept {name} of shape {dimensions}: build it with another --shape")
        self.set_output(name, address)

    def set_output(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise EngineError(f"the engine has no tensor {name!r}, or rejects its address")

    def execute(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise EngineError("TensorRT could not start the computation")

    def capturable(self, stream: int) -> bool:
        # TensorRT-RTX compiles kernels at run time and reports it; plans of TensorRT are always capturable
        asks = getattr(self._context, "is_stream_capturable", None)
        return True if asks is None else bool(asks(stream))

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
        library = load_library(backend)
        trt, self._cache, self._key = library.module, kernels, sha256(plan)
        self._kept: bytes | None = None
        self._runtime = trt.Runtime(library.logger)
        if host_code:
            self._runtime.engine_host_code_allowed = True
        library.log.clear()
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:  # it never raises
            raise EngineError(f"{backend} {library.version} cannot load the plan: {library.complaint()}")
        self._config: Any = None
        self._kernels: Any = None
        if hasattr(self._engine, "create_runtime_config"):
            self._config = self._engine.create_runtime_config()
            self._prepare_rtx(trt)

    def _prepare_rtx(self, trt: Any) -> None:
        """Loads RTX's cached kernels and selects kernels specialised for each shape."""
        config = self._config
        if hasattr(config, "create_runtime_cache"):
            self._kernels = config.create_runtime_cache()
            self._kept = self._cache.load(self._key) if self._cache is not None else None
            if self._kept is not None and not self._kernels.deserialize(self._kept):
                _LOG.info("cached kernels are for another GPU, driver or version: compiling again")
            config.set_runtime_cache(self._kernels)
        strategies = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is not None:
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER

    def context(self) -> PlanContext:
        context = (
            self._engine.create_execution_context()
            if self._config is None
            else self._engine.create_execution_context(self._config)
        )
        if context is None:
            raise EngineError("TensorRT could not create an execution context: is there enough memory on the GPU?")
        return _Context(context)

    def close(self) -> None:
        """Caches RTX's kernels for the next start and frees the engine."""
        try:
            if self._kernels is not None and self._cache is not None:
                compiled = bytes(memoryview(self._kernels.serialize()))
                if compiled != self._kept:
                    self._cache.store(self._key, compiled)
        finally:
            self._config = self._kernels = self._engine = self._runtime = None
