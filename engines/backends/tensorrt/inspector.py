"""What a loaded plan executes, as TensorRT's engine inspector reports it; needs a GPU.

The layers of a plan are fused kernels, so their number is not that of the network's layers. Formats are reported only
for concrete shapes, hence the context, and only of plans built with ``ProfilingVerbosity.DETAILED``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import Cuda
from fusepipe.engines.backends.tensorrt.library import load_library
from fusepipe.engines.tensor_names import INPUTS, SAMPLING_GRID

# as older libraries ("Thirty-two wide channel vectorized row major Int8 format") and newer ones ("Half") write it;
# in this order: "bfloat16" ends like "float16", and that begins like "float"
_FORMATS = (
    ("bf16", r"bf16|bfloat16"),
    ("fp16", r"fp16|float16|half"),
    ("fp8", r"fp8|float8"),
    ("fp32", r"fp32|float"),
    ("uint8", r"uint8"),
    ("int8", r"int8"),
)
_UNKNOWN = "other"


@dataclass(frozen=True, slots=True)
class ExecutedLayers:
    """How many layers a plan executes, by the type of their first output and by kind (``kgen``)."""

    by_output: dict[str, int]
    by_kind: dict[str, int]


def executed_layers(information: str) -> ExecutedLayers:
    """Reads the inspector's JSON; raises :class:`EngineError` if it has only names, or no layers."""
    try:
        layers: Any = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"the engine inspector's answer has no layers: {information[:200]!r}") from error
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        raise EngineError("the plan was built without detailed profiling information: build it again")
    outputs: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for layer in layers:
        kinds[str(layer.get("LayerType", _UNKNOWN))] += 1
        listed = layer.get("Outputs") or []
        if listed:
            outputs[_precision(str(listed[0].get("Format/Datatype", "")))] += 1
    return ExecutedLayers(dict(outputs), dict(kinds))


def _precision(text: str) -> str:
    return next((name for name, pattern in _FORMATS if re.search(pattern, text.lower())), _UNKNOWN)


def inspect_plan(backend: str, plan: bytes, size: tuple[int, int], *, host_code: bool, cuda: Cuda) -> ExecutedLayers:
    """Loads a plan on the GPU of ``cuda`` and reads what it executes for a pair of ``size`` (width, height).

    ``host_code``: see :class:`fusepipe.engines.backends.tensorrt.plan.TensorRtPlan`. Raises :class:`EngineError` if the
    plan cannot be loaded.
    """
    library = load_library(backend)
    trt = library.module
    cuda.bind_thread()
    runtime = trt.Runtime(library.logger)
    if host_code:
        runtime.engine_host_code_allowed = True
    library.log.clear()
    engine = runtime.deserialize_cuda_engine(plan)
    context = None if engine is None else engine.create_execution_context()
    if context is None:
        raise EngineError(f"{backend} {library.version} cannot load the plan: {library.complaint()}")
    stream = cuda.stream()
    if not context.set_optimization_profile_async(0, stream):
        raise EngineError(f"TensorRT rejects the plan's optimisation profile: {library.complaint()}")
    width, height = size
    shapes = dict.fromkeys(INPUTS, (1, 1, height, width)) | {SAMPLING_GRID: (1, height, width, 2)}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT and not context.set_input_shape(name, shapes[name]):
            raise EngineError(f"the engine does not accept {name} of shape {shapes[name]}: take another size")
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    information = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    cuda.destroy_stream(stream)
    return executed_layers(information)
