"""Computes the layers that both images pass in one batch of 2N instead of in two batches of N, for GPUs.

The coarse part of a pyramid network is small: on a GPU its time is that of starting kernels. The encoder has the same
weights for both images, so its inputs are concatenated along the batch, and its outputs are split again. Images of a
batch are computed independently, so the result is the same. CPUs gain nothing and keep the two calls.

(Reshaping pairs of images to twice the batch would need no split, but TensorRT-RTX 1.7 makes one kernel more of it.)
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import helper

from fusepipe.engines.onnx_graph import compute_nodes, metadata, replace_nodes

# operators that compute each image of the batch by itself, for any batch; Concat among them only along the channels
_PER_IMAGE = frozenset({"Conv", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Add", "Sub", "Mul", "Max", "Min", "Concat"})
_SPLIT_OPSET = 18  # the first whose Split needs no sizes
Tensors = dict[str, str]


def batch_shared_encoder(model: onnx.ModelProto) -> int:
    """Merges the layers that a pyramid network applies to both images, in place; returns how many were merged.

    Graphs of other networks, of an older opset, or whose second image depends on the first are left as they are.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if not metadata(model, "sharpness") or opset < _SPLIT_OPSET:
        return 0
    pairs, partner = _pairs(model)
    nodes = None if not pairs else _in_order(_merged(model, pairs, partner), model)
    if nodes is None:
        return 0
    replace_nodes(model.graph, nodes)
    return len(pairs)


def _pairs(model: onnx.ModelProto) -> tuple[list[tuple[onnx.NodeProto, onnx.NodeProto]], Tensors]:
    """The pairs of nodes to merge, in order, and the tensors of the second image by those of the first."""
    constants = {tensor.name for tensor in model.graph.initializer}
    seeds = _same_weights(compute_nodes(model), constants)
    partner: Tensors = {}
    pairs: list[tuple[onnx.NodeProto, onnx.NodeProto]] = []
    taken: set[str] = set()
    for node in model.graph.node:
        if node.name in taken or node.op_type not in _PER_IMAGE:
            continue
        other = seeds.get(node.name) or _twin(node, model.graph.node, partner, constants)
        if other is None or other.name in taken:
            continue
        pairs.append((node, other))
        taken |= {node.name, other.name}
        partner |= dict(zip(node.output, other.output, strict=True))
    return pairs, partner


def _same_weights(nodes: Iterable[onnx.NodeProto], constants: set[str]) -> dict[str, onnx.NodeProto]:
    """The second convolution with the same weights and attributes, by the name of the first; of exactly two."""
    found: dict[tuple[object, ...], list[onnx.NodeProto]] = {}
    for node in nodes:
        fixed = tuple(name for name in node.input if name in constants)
        if fixed and node.op_type == "Conv":
            found.setdefault((fixed, *_attributes(node)), []).append(node)
    return {same[0].name: same[1] for same in found.values() if len(same) == 2}


def _twin(
    node: onnx.NodeProto, nodes: Iterable[onnx.NodeProto], partner: Tensors, constants: set[str]
) -> onnx.NodeProto | None:
    """The node that does the same with the second image, if all inputs of ``node`` are of the first."""
    if not all(name in partner for name in node.input) or (node.op_type == "Concat" and _axis(node) != 1):
        return None
    wanted = [partner[name] for name in node.input]
    return next(
        (
            other
            for other in nodes
            if list(other.input) == wanted and other.op_type == node.op_type and _attributes(other) == _attributes(node)
        ),
        None,
    )


def _axis(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "axis"), 0)


def _attributes(node: onnx.NodeProto) -> tuple[bytes, ...]:
    return tuple(sorted(a.SerializeToString(deterministic=True) for a in node.attribute))


def _merged(
    model: onnx.ModelProto, pairs: list[tuple[onnx.NodeProto, onnx.NodeProto]], partner: Tensors
) -> list[onnx.NodeProto]:
    """All nodes, with each pair as one, in no particular order."""
    constants = {tensor.name for tensor in model.graph.initializer}
    gone = {node.name for pair in pairs for node in pair}
    kept = [node for node in model.graph.node if node.name not in gone]
    read = {name for node in kept for name in node.input} | {tensor.name for tensor in model.graph.output}
    both: Tensors = {}
    made = []
    for first, second in pairs:
        inputs = []
        for one, other in zip(first.input, second.input, strict=True):
            if one not in constants and one not in both:
                both[one] = f"{one}_both"
                made.append(helper.make_node("Concat", [one, other], [both[one]], f"{both[one]}_concat", axis=0))
            inputs.append(both.get(one, one))
        node = onnx.NodeProto()
        node.CopyFrom(first)
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        both |= {name: f"{name}_both" for name in first.output}
        node.output.extend(both[name] for name in first.output)
        made.append(node)
        for name in first.output:
            if name in read or partner[name] in read:
                halves = [name, partner[name]]
                made.append(helper.make_node("Split", [both[name]], halves, f"{name}_split", axis=0, num_outputs=2))
    return [*kept, *made]


def _in_order(nodes: list[onnx.NodeProto], model: onnx.ModelProto) -> list[onnx.NodeProto] | None:
    """The nodes so that each comes after those it reads from; ``None`` if there is no such order."""
    known = {tensor.name for tensor in (*model.graph.initializer, *model.graph.input)} | {""}
    ordered: list[onnx.NodeProto] = []
    waiting = nodes
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        if not ready:
            return None
        ordered += ready
        known |= {name for node in ready for name in node.output}
        waiting = [node for node in waiting if not known.issuperset(node.output)]
    return ordered
