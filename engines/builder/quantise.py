"""Quantises fp32 graphs to int8 with Q/DQ pairs, for TensorRT (symmetric) and for OpenVINO on CPUs.

Each compute layer reads a quantised tensor and has quantised weights with one scale per output channel. Biases and
everything between the layers keep their type; the runtimes fuse Q/DQ into int8 kernels. The two targets differ:

- TensorRT: int8 with zero point 0 everywhere, weights in [-127, 127]. Scales have the type of their tensor, which is
  fp16 between the layers: the type of the scales is the type that a layer writes.
- CPU: activations that are never negative are uint8, which has twice the steps. Weights keep to [-64, 64]:
  CPUs without VNNI add two 16-bit products of uint8 x int8 with saturation, and only half the range is safe.
  Tensors are quantised where they are produced, and the whole core of the network reads int8: a layer with float
  and int8 consumers would write both. Parts of a concatenation share one scale, so that concatenating copies bytes.
  The layer that outputs the image, with one channel, stays fp32: it is a thousandth of the work, and int8 would
  round its input and output to the grey levels of the image.

Each scale minimises the mean squared error over the calibration sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fusepipe.core.errors import EngineError
from fusepipe.engines.builder.tensor_ranges import TensorRange
from fusepipe.engines.onnx_graph import (
    checked,
    compute_nodes,
    constant_values,
    core_nodes,
    drop_unused,
    element_types,
    parts,
    replace_nodes,
    set_metadata,
)

Target = Literal["tensorrt", "cpu"]
Floats = NDArray[np.float32]

CPU_WEIGHTS, TENSORRT_WEIGHTS = 64, 127
_LEAST_FP16_SCALE = np.float32(2.0**-20)  # a subnormal number with four significant bits
_CLIPS = np.linspace(1.0, 0.4, 31)


@dataclass(frozen=True, slots=True)
class QuantisationGrid:
    """The values a quantised tensor can have: ``scale * (q - zero)`` with ``low <= q <= high``."""

    scale: float
    zero: int
    low: int
    high: int

    def nearest(self, values: Floats) -> Floats:
        """The nearest value of the grid for each value."""
        steps = np.clip(np.rint(values / np.float32(self.scale)) + self.zero, self.low, self.high)
        return np.asarray((steps - self.zero) * np.float32(self.scale), np.float32)


def choose_grid(tensor: TensorRange, target: Target) -> QuantisationGrid:
    """The grid with the smallest mean squared error over the sample of a tensor."""
    if tensor.abs_max == 0.0:
        return QuantisationGrid(1.0, 0, -128, 127)
    unsigned = target == "cpu" and tensor.min >= 0.0
    low, high = (0, 255) if unsigned else (-128, 127)
    grids = [QuantisationGrid(float(np.float32(tensor.abs_max * clip / high)), 0, low, high) for clip in _CLIPS]
    if target == "cpu" and abs(grids[0].scale * 255 - 1.0) < 1e-6 and unsigned:
        return grids[0]  # bytes scaled to [0, 1]: exact as they are
    return min(grids, key=lambda grid: float(np.square(grid.nearest(tensor.sample) - tensor.sample).mean()))


def merge_ranges(ranges: Iterable[TensorRange]) -> TensorRange:
    """The common range of tensors that share a grid."""
    each = list(ranges)
    sample = np.concatenate([one.sample for one in each])
    return TensorRange(min(one.min for one in each), max(one.max for one in each), sample)


def quantise(
    model: onnx.ModelProto, ranges: Mapping[str, TensorRange], target: Target, keep: Iterable[str] = ()
) -> onnx.ModelProto:
    """A copy of an fp32 or fp16 graph with int8 compute layers; those named in ``keep`` keep their type.

    ``ranges`` is its :func:`fusepipe.engines.builder.tensor_ranges.compute_input_ranges`. Metadata: ``precision``,
    ``target`` and ``kept_fp32``. Raises :class:`EngineError` if no layer can be quantised.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph, constants, kept = result.graph, constant_values(result), set(keep)
    if target == "cpu":
        kept |= {node.name for node in compute_nodes(result) if _outputs_the_image(node, constants)}
    chosen = {node.name for node in compute_nodes(result) if node.name not in kept and _fits(node, ranges, constants)}
    skipped = [node.name for node in compute_nodes(result) if node.name not in chosen]
    if not chosen:
        raise EngineError("this network has no layer that can be int8")
    groups = _groups(result, chosen, target)
    core = core_nodes(result) if target == "cpu" else set()
    made_by = {name: node.name for node in graph.node for name in node.output}
    grids = {
        name: choose_grid(merge_ranges(ranges[part] for part in group), target) for group in groups for name in group
    }
    kinds = {name: helper.tensor_dtype_to_np_dtype(kind) for name, kind in element_types(model).items()}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in grids and ((node.name in chosen and index == 0) or {node.name, made_by.get(name)} <= core):
                node.input[index] = f"{name}.dequantised"
        if node.name in chosen:
            nodes.append(_weights(graph, node, constants[node.input[1]], target))
        nodes.append(node)
        for name in node.output:
            if name in grids:
                nodes += _pair(graph, name, f"{name}.dequantised", grids[name], kinds[name])
    replace_nodes(graph, nodes)
    drop_unused(graph)
    set_metadata(result, precision="int8", target=target, kept_fp32=",".join(skipped))
    return checked(result)


def _groups(model: onnx.ModelProto, chosen: Set[str], target: Target) -> list[tuple[str, ...]]:
    """The tensors to quantise, grouped by common grid."""
    read = [node.input[0] for node in model.graph.node if node.name in chosen]
    if target == "tensorrt":
        return [(name,) for name in dict.fromkeys(read)]  # TensorRT moves the quantisation up itself
    groups: list[set[str]] = []
    for name in read:
        joined = set(parts(model, name))
        apart = [group for group in groups if not group & joined]
        joined = joined.union(*(group for group in groups if group & joined))
        groups = [*apart, joined]
    return [tuple(sorted(group)) for group in groups]


def _outputs_the_image(node: onnx.NodeProto, constants: Mapping[str, NDArray[np.generic]]) -> bool:
    return node.op_type == "Conv" and node.input[1] in constants and constants[node.input[1]].shape[0] == 1


def _fits(
    node: onnx.NodeProto, ranges: Mapping[str, TensorRange], constants: Mapping[str, NDArray[np.generic]]
) -> bool:
    # products of two activations (attention) have no weights to quantise, and gain little
    return node.op_type == "Conv" and node.input[0] in ranges and node.input[1] in constants


def _pair(
    graph: onnx.GraphProto, source: str, result: str, grid: QuantisationGrid, scale_kind: np.dtype[Any]
) -> list[onnx.NodeProto]:
    kind = np.uint8 if grid.low == 0 else np.int8
    names = [f"{source}.scale", f"{source}.zero"]
    graph.initializer.append(numpy_helper.from_array(np.array(grid.scale, scale_kind), names[0]))
    graph.initializer.append(numpy_helper.from_array(np.array(grid.zero, kind), names[1]))
    return [
        helper.make_node("QuantizeLinear", [source, *names], [f"{source}.quantised"], f"{source}.quantise"),
        helper.make_node("DequantizeLinear", [f"{source}.quantised", *names], [result], f"{source}.dequantise"),
    ]


def _weights(
    graph: onnx.GraphProto, node: onnx.NodeProto, weights: NDArray[np.generic], target: Target
) -> onnx.NodeProto:
    """Quantises a layer's weights in place; returns the node that dequantises them."""
    values = np.asarray(weights, np.float32)
    limit = CPU_WEIGHTS if target == "cpu" else TENSORRT_WEIGHTS
    flat = np.abs(values).reshape(values.shape[0], -1).max(axis=1)
    scales = np.where(flat > 0, flat, 1.0).astype(np.float32) / np.float32(limit)
    if weights.dtype == np.float16:
        scales = np.maximum(scales, _LEAST_FP16_SCALE).astype(np.float16)
    shaped = scales.astype(np.float32).reshape(-1, *([1] * (values.ndim - 1)))
    steps = np.clip(np.rint(values / shaped), -limit, limit).astype(np.int8)
    base = f"{node.name}.{node.input[1]}"
    for name, array in (("steps", steps), ("scale", scales), ("zero", np.zeros(scales.shape, np.int8))):
        graph.initializer.append(numpy_helper.from_array(array, f"{base}.{name}"))
    inputs = [f"{base}.{name}" for name in ("steps", "scale", "zero")]
    node.input[1] = f"{base}.dequantised"
    return helper.make_node("DequantizeLinear", inputs, [node.input[1]], f"{base}.dequantise", axis=0)
