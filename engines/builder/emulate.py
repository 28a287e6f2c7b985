"""Emulates fp16, bf16 and int8 graphs in fp32, on CPUs that have none of them.

Every 16-bit tensor is computed in fp32 and rounded to 16 bits where a GPU would store it, so that the graph of a plan
can be verified where the plan cannot be executed. The rounding is Dekker's splitting (Numerische Mathematik 18,
1971): with ``c = x (2^s + 1)``, ``c - (c - x)`` is ``x`` rounded to ``24 - s`` significant bits. Runtimes keep the
order of float operations, so it survives them; subnormal fp16 numbers are kept finer than they are.
Accumulation within a layer is fp32, as tensor cores do it. Q/DQ pairs become a rounding to their grid: the
products are integer multiples of the scales either way, and saturating int8 kernels of CPUs are avoided.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fusepipe.engines.builder.half_precision import FP16_LIMIT
from fusepipe.engines.onnx_graph import attribute, checked, constant_values, drop_unused, element_types, replace_nodes

_LOW = {TensorProto.FLOAT16: 13, TensorProto.BFLOAT16: 16}  # type -> bits to drop of 24
# Operators whose outputs are copies of input values, which are rounded already.
_MOVES = frozenset(
    {"Relu", "Concat", "Split", "Slice", "Transpose", "Reshape", "Pad", "MaxPool", "DepthToSpace", "SpaceToDepth"}
    | {"Clip", "Abs", "Neg", "Max", "Min", "Squeeze", "Unsqueeze", "Identity", "Gather", "Expand"}
)


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """An fp32 graph that computes what ``model`` computes; an fp32 graph is returned unchanged.

    Values beyond the range of fp16 become infinite, as they would on a GPU.
    """
    types = element_types(model)
    quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    if not quantised and not set(types.values()) & set(_LOW):
        return model
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":  # fused into the int8 layer, whose scales multiply its fp32 sums
            types.pop(node.output[0])
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    if quantised:
        _gridded(result)
    for tensor in list(graph.initializer):
        if tensor.data_type in _LOW:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    constants = {"emulated.limit": FP16_LIMIT, "emulated.infinity": np.inf}
    constants |= {f"emulated.{bits}": 2.0**bits + 1 for bits in _LOW.values()}
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Cast" and attribute(node, "to") in _LOW:
            next(a for a in node.attribute if a.name == "to").i = TensorProto.FLOAT
        if node.op_type in _MOVES:
            continue
        for index, name in enumerate(node.output):
            if types.get(name) in _LOW:
                node.output[index] = f"{name}.wide"
                nodes += _rounded(name, types[name])
    replace_nodes(graph, nodes)
    return checked(result)


def _gridded(model: onnx.ModelProto) -> None:
    """Replaces Q/DQ pairs by scaling, rounding and clipping; quantised weights by their dequantised values."""
    graph, constants = model.graph, constant_values(model)
    floats = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            nodes.append(node)
            continue
        source, scale, zero = node.input
        (result,) = node.output
        if source in constants:
            shape = (-1, *([1] * (floats[source].ndim - 1))) if floats[scale].ndim else ()
            values = (floats[source] - floats[zero].reshape(shape)) * floats[scale].reshape(shape)
            graph.initializer.append(numpy_helper.from_array(values, result))
            continue
        low, high = (-128, 127) if constants[zero].dtype == np.int8 else (0, 255)
        for key, value in (("low", low), ("high", high)):
            graph.initializer.append(numpy_helper.from_array(np.float32(value), f"{result}.{key}"))
        graph.initializer.append(numpy_helper.from_array(floats[zero], f"{result}.zero"))
        if node.op_type == "QuantizeLinear":
            steps = [
                ("Div", [source, scale], "scaled"),
                ("Round", [f"{result}.scaled"], "whole"),
                ("Add", [f"{result}.whole", f"{result}.zero"], "moved"),
                ("Clip", [f"{result}.moved", f"{result}.low", f"{result}.high"], ""),
            ]
        else:
            steps = [("Sub", [source, f"{result}.zero"], "moved"), ("Mul", [f"{result}.moved", scale], "")]
        for op, inputs, step in steps:
            output = f"{result}.{step}" if step else result
            nodes.append(helper.make_node(op, inputs, [output], f"{node.name}.{op}"))
    replace_nodes(graph, nodes)
    drop_unused(graph)
    del graph.value_info[:]


def _rounded(name: str, kind: int) -> list[onnx.NodeProto]:
    """The nodes from ``NAME.wide`` to ``NAME``."""
    wide = f"{name}.wide"
    steps = [
        ("Mul", [wide, f"emulated.{_LOW[kind]}"], "scaled"),
        ("Sub", [f"{name}.scaled", wide], "rest"),
        ("Sub", [f"{name}.scaled", f"{name}.rest"], "rounded"),
    ]
    last = "rounded"
    if kind == TensorProto.FLOAT16:
        steps += [
            ("Abs", [f"{name}.rounded"], "size"),
            ("Greater", [f"{name}.size", "emulated.limit"], "over"),
            ("Where", [f"{name}.over", "emulated.infinity", f"{name}.rounded"], "finite"),
        ]
        last = "finite"
    return [
        helper.make_node(op, inputs, [name if step == last else f"{name}.{step}"], f"{name}.{step}")
        for op, inputs, step in steps
    ]
