"""A plan that is loaded: the few calls of TensorRT that running it takes, behind a seam of their own.

:class:`TensorRtPlan` is the real one; :class:`fusepipe.engines.backends.tensorrt.double.FakePlan` computes on the CPU.
Whoever owns the CUDA context calls everything.
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
    """One context of a plan: shapes and addresses are set once, then it is executed again and again."""

    def set_input(self, name: str, dimensions: Dimensions, address: int) -> None: ...
    def set_output(self, name: str, address: int) -> None: ...
    def execute(self, stream: int) -> None:
        """Starts the computation in a stream; raises :class:`EngineError` where that fails."""

    def capturable(self, stream: int) -> bool:
        """Whether :meth:`execute` may be captured into a graph of CUDA."""

    def close(self) -> None:
        """Gives its memory on the GPU back; before the plan's."""


class Plan(Protocol):
    """A loaded plan."""

    def context(self) -> PlanContext: ...
    def close(self) -> None:
        """After all its contexts, and before CUDA is given back: what is left on the GPU is freed here."""


class _Context:
    def __init__(self, context: Any) -> None:
        self._context = context

    def set_input(self, name: str, dimensions: Dimensions, address: int) -> None:
        if not self._context.set_input_shape(name, dimensions):
            raise EngineError(f"the engine does not take {name} of shape {dimensions}: build it with other --shape")
        self.set_output(name, address)

    def set_output(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise EngineError(f"the engine has no {name!r}, or does not take its memory")

    def execute(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise EngineError("TensorRT could not start the computation")

    def capturable(self, stream: int) -> bool:
        # TensorRT-RTX compiles kernels while it runs and says itself; TensorRT's plans always can
        asks = getattr(self._context, "is_stream_capturable", None)
        return True if asks is None else bool(asks(stream))

    def close(self) -> None:
        self._context = None  # the binding frees it with the last reference


class TensorRtPlan:
    """A plan of TensorRT or TensorRT-RTX. ``kernels`` is where RTX keeps what it compiled for this GPU.

    ``host_code`` allows the plan to bring code that runs here: one for other versions brings NVIDIA's lean runtime.

    Raises :class:`EngineError` for a plan that the library refuses, with its reason.
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
            raise EngineError(f"{backend} {library.version} refuses the plan: {library.complaint()}")
        self._config: Any = None
        self._kernels: Any = None
        if hasattr(self._engine, "create_runtime_config"):
            self._config = self._engine.create_runtime_config()
            self._prepare_rtx(trt)

    def _prepare_rtx(self, trt: Any) -> None:
        """RTX compiles kernels at run time: take those of the last run, and the exact ones for each shape."""
        config = self._config
        if hasattr(config, "create_runtime_cache"):
            self._kernels = config.create_runtime_cache()
            self._kept = self._cache.load(self._key) if self._cache is not None else None
            if self._kept is not None and not self._kernels.deserialize(self._kept):
                _LOG.info("the kernels of the last run are of another GPU, driver or version: compiled anew")
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
            raise EngineError("TensorRT could not make an execution context: is there enough memory on the GPU?")
        return _Context(context)

    def close(self) -> None:
        """Keeps RTX's kernels for the next start and lets go of the engine."""
        try:
            if self._kernels is not None and self._cache is not None:
                compiled = bytes(memoryview(self._kernels.serialize()))
                if compiled != self._kept:
                    self._cache.store(self._key, compiled)
        finally:
            self._config = self._kernels = self._engine = self._runtime = None
