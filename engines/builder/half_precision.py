"""Converts fp32 graphs to fp16 or bf16. The precision is part of the graph, not a flag of the builder.

Weights and activations between the first and the last convolution become 16 bit; scaling of the bytes and
the final mix stay fp32 (:func:`fusepipe.engines.onnx_graph.core_nodes`). The finer levels of a pyramid network become
fp16 as well: element-wise operations at full size, limited by memory bandwidth. With bf16 they stay fp32, since its 8
significant bits would round the images to whole grey levels at every step. Where a layer's values would not fit in fp16
it stays fp32, and the graph's metadata names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fusepipe.core.errors import EngineError
from fusepipe.engines.onnx_graph import (
    attribute,
    checked,
    compute_nodes,
    core_nodes,
    drop_unused,
    element_types,
    float_inputs,
    inner_nodes,
    metadata,
    replace_nodes,
    set_metadata,
)

FP16_LIMIT = 65504.0
HEADROOM = 2.0
"""Factor between the largest calibration value and the fp16 limit: other scenes may be brighter."""

_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_NUMPY = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
_BF16_OPSET = 22  # the first with bf16 convolutions


def lowered_nodes(model: onnx.ModelProto, precision: str) -> set[str]:
    """Names of the nodes that ``fp16`` or ``bf16`` applies to; see the module's docstring."""
    pyramid = bool(metadata(model, "sharpness"))
    return inner_nodes(model) if pyramid and precision == "fp16" else core_nodes(model)


def overflowing_nodes(model: onnx.ModelProto, maxima: Mapping[str, float]) -> list[str]:
    """Names of the nodes to be lowered whose inputs, weights or outputs do not fit in fp16.

    ``maxima`` is the largest magnitude of each tensor (:func:`tensor_ranges.absolute_maxima`).
    Raises :class:`EngineError` for values that are not finite: such a network is damaged in any precision.
    """
    maxima = dict(maxima)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            maxima[tensor.name] = float(np.abs(values).max(initial=0.0)) / HEADROOM  # weights do not grow
    broken = sorted(name for name, value in maxima.items() if not np.isfinite(value))
    if broken:
        raise EngineError(f"the network has values that are not finite (in {broken[0]!r}): its weights are damaged")
    low = lowered_nodes(model, "fp16")
    return [
        node.name
        for node in model.graph.node
        if node.name in low
        and any(maxima.get(name, 0.0) * HEADROOM > FP16_LIMIT for name in (*node.input, *node.output))
    ]


def to_half_precision(model: onnx.ModelProto, precision: str, keep: Iterable[str] = ()) -> onnx.ModelProto:
    """A copy of an fp32 graph that computes in ``fp16`` or ``bf16``; nodes named in ``keep`` stay fp32.

    Casts are inserted where the precisions meet. Metadata: ``precision``, and the kept compute nodes as ``kept_fp32``.
    """
    target, kept = _TYPES[precision], set(keep)
    result = _with_opset(model, _BF16_OPSET) if precision == "bf16" else _copy(model)
    graph, types = result.graph, element_types(result)
    low = lowered_nodes(result, precision) - kept
    producer = {name: node.name for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    cast: dict[tuple[str, int], str] = {}
    nodes: list[onnx.NodeProto] = []

    def in_type(name: str, wanted: int) -> str:
        """The tensor ``name`` in the wanted type: itself, a converted constant, or a cast."""
        is_low = producer.get(name) in low
        if is_low == (wanted == target):
            return name
        key = (name, wanted)
        if key not in cast:
            cast[key] = f"{name}.{precision if wanted == target else 'fp32'}"
            if name in constants:
                values = numpy_helper.to_array(constants[name]).astype(_NUMPY[precision])
                graph.initializer.append(numpy_helper.from_array(values, cast[key]))
            else:
                nodes.append(helper.make_node("Cast", [name], [cast[key]], f"{cast[key]}.cast", to=wanted))
        return cast[key]

    for node in graph.node:
        wanted = target if node.name in low else TensorProto.FLOAT
        for index in float_inputs(node, types):
            node.input[index] = in_type(node.input[index], wanted)
        if node.name in low and node.op_type == "Cast" and attribute(node, "to") == TensorProto.FLOAT:
            next(a for a in node.attribute if a.name == "to").i = target
        nodes.append(node)
    replace_nodes(graph, nodes)
    drop_unused(graph)
    listed = [node.name for node in compute_nodes(result) if node.name in kept]
    set_metadata(result, precision=precision, kept_fp32=",".join(listed))
    return checked(result)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _with_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    current = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if current >= version:
        return _copy(model)
    try:
        converted = onnx.version_converter.convert_version(model, version)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise EngineError(f"the network cannot be written in opset {version}, which bf16 needs: {error}") from error
    names = {node.output[0]: node.name for node in model.graph.node}
    for node in converted.graph.node:
        node.name = names.get(node.output[0], node.name)
    for entry in model.metadata_props:
        if entry.key not in {known.key for known in converted.metadata_props}:
            converted.metadata_props.add(key=entry.key, value=entry.value)
    return converted
