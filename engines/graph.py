"""ONNX graphs as they are edited here: read, tidied, and sorted into what computes and what does not.

Every graph is the one that :mod:`fusepipe.train.export` writes: ``infrared``, ``visible`` -> ``fused``, all
N x 1 x H x W uint8 luma. Nothing here runs a graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.engines.tensor_names import INPUTS, OUTPUT, PLACES

# What takes the time, and what a precision is asked for. Everything else is a few per cent of it.
COMPUTE = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})


def read_graph(content: bytes, name: str) -> onnx.ModelProto:
    """Parses and tidies a graph: constants are initializers, casts of constants are done, nodes have names.

    ``name`` is for messages. Raises :class:`EngineError` for a file that is no valid ONNX or has damaged weights,
    :class:`UsageError` for inputs and outputs that are not uint8 luma.
    """
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's share no other base
        raise EngineError(f"{name}: is not a valid ONNX file ({_first_line(error)})") from error
    _check_interface(model, name)
    del model.graph.value_info[:]  # notes of the exporter, which would not survive the edits
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    _lift_constants(model.graph)
    _fold_casts(model.graph)
    for weight, values in constant_values(model).items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise EngineError(f"{name}: has values that are not finite in {weight!r}: its weights are damaged")
    return model


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_interface(model: onnx.ModelProto, name: str) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    tensors = {t.name: t for t in (*model.graph.input, *model.graph.output) if t.name not in constants}
    if set(tensors) - {PLACES} != {*INPUTS, OUTPUT}:
        raise UsageError(f"{name}: has {sorted(tensors)}; a fusion network has infrared, visible and fused")
    for tensor in tensors.values():
        if tensor.name == PLACES:
            continue
        shape = tensor.type.tensor_type.shape.dim
        if tensor.type.tensor_type.elem_type != TensorProto.UINT8 or len(shape) != 4:
            raise UsageError(f"{name}: {tensor.name} is not N x 1 x H x W uint8; put the scaling into the graph")
        if shape[2].dim_value or shape[3].dim_value:
            height, width = (side.dim_value or "any" for side in shape[2:])
            raise UsageError(f"{name}: {tensor.name} is {width}x{height} only; export it with dynamic height and width")


def _lift_constants(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        if value is None:
            kept.append(node)
        else:
            constant = graph.initializer.add()
            constant.CopyFrom(value)
            constant.name = node.output[0]
    replace_nodes(graph, kept)


def _fold_casts(graph: onnx.GraphProto) -> None:
    """Does the casts of constants now: weights that are stored in fp16 become fp32 ones."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        stored = constants.get(node.input[0]) if node.op_type == "Cast" else None
        if stored is None:
            kept.append(node)
            continue
        target = helper.tensor_dtype_to_np_dtype(attribute(node, "to"))
        folded = numpy_helper.from_array(numpy_helper.to_array(stored).astype(target), node.output[0])
        graph.initializer.append(folded)
        constants[folded.name] = folded
    replace_nodes(graph, kept)
    drop_unused(graph)


def attribute(node: onnx.NodeProto, name: str) -> int:
    """An integer attribute; 0 where it is not given."""
    return next((int(a.i) for a in node.attribute if a.name == name), 0)


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Gives a graph other nodes, in order."""
    listed = list(nodes)
    del graph.node[:]
    graph.node.extend(listed)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Removes constants that nothing reads."""
    used = {name for node in graph.node for name in node.input} | {tensor.name for tensor in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def constant_values(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    """The constants of a graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """``TensorProto`` type of every tensor; raises :class:`EngineError` where ONNX cannot tell."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    except Exception as error:  # of onnx's C++ part, without a common base
        raise EngineError(f"the types of this network cannot be found: {_first_line(error)}") from error
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    missing = [name for node in graph.node for name in node.output if name and name not in types]
    if missing:
        raise EngineError(f"the types of this network cannot be found, of {missing[0]!r} for one")
    return types


def rearranges(node: onnx.NodeProto, constants: dict[str, NDArray[np.generic]]) -> bool:
    """Whether a convolution only moves pixels (one weight of 1 each output, as pixel-unshuffle): no arithmetic."""
    if node.op_type != "Conv" or len(node.input) > 2 or node.input[1] not in constants:
        return False
    weights = constants[node.input[1]].reshape(constants[node.input[1]].shape[0], -1)
    return bool(((weights != 0).sum(axis=1) == 1).all() and (weights.max(axis=1) == 1).all())


def compute_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that a precision is about, in order."""
    constants = constant_values(model)
    return [node for node in model.graph.node if node.op_type in COMPUTE and not rearranges(node, constants)]


def core_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the compute nodes and of all between them.

    What comes before the first (scaling of the bytes) and after the last (mixing, clamping, rounding) is
    not in it: it costs little and makes the grey levels, so it stays in fp32.
    """
    compute = {node.name for node in compute_nodes(model)}
    after: set[str] = set()
    reached: set[str] = set()
    for node in model.graph.node:  # nodes are in topological order
        if node.name in compute or reached & set(node.input):
            after.add(node.name)
            reached |= set(node.output)
    before: set[str] = set()
    wanted: set[str] = set()
    for node in reversed(model.graph.node):
        if node.name in compute or wanted & set(node.output):
            before.add(node.name)
            wanted |= {name for name in node.input if name}
    return after & before


def parts(model: onnx.ModelProto, name: str) -> list[str]:
    """The tensors that ``name`` is put together from by Concat, however deep; itself where it is not."""
    maker = next((node for node in model.graph.node if name in node.output), None)
    if maker is None or maker.op_type != "Concat":
        return [name]
    return [part for source in maker.input for part in parts(model, source)]


def set_metadata(model: onnx.ModelProto, **values: str) -> None:
    """Sets ``fusepipe.KEY`` of the file's metadata, replacing what was there."""
    kept = {entry.key: entry.value for entry in model.metadata_props}
    kept |= {f"fusepipe.{key}": value for key, value in values.items()}
    del model.metadata_props[:]
    for key, value in kept.items():
        model.metadata_props.add(key=key, value=value)


def metadata(model: onnx.ModelProto, key: str, default: str = "") -> str:
    """``fusepipe.KEY`` of the file's metadata."""
    return next((entry.value for entry in model.metadata_props if entry.key == f"fusepipe.{key}"), default)


def multiple_of(model: onnx.ModelProto) -> int:
    """What heights and widths are padded to: ``fusepipe.multiple``, 1 for a file without it.

    Raises :class:`EngineError` where it is no whole number from 1.
    """
    written = metadata(model, "multiple", "1")
    if not written.isdecimal() or int(written) < 1:
        raise EngineError(f"the network's metadata have fusepipe.multiple = {written!r}, not a whole number from 1")
    return int(written)


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> bytes:
    """The graph with more outputs: tensors inside it, to be looked at."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    types = element_types(model)
    for name in names:
        watched.graph.output.append(helper.make_tensor_value_info(name, types[name], None))
    return serialised(watched)


def serialised(model: onnx.ModelProto) -> bytes:
    """The file's bytes: the same graph always gives the same."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, after ONNX's own check of it; raises :class:`EngineError`."""
    del model.graph.value_info[:]
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # as above
        raise EngineError(f"the converted network is not valid ONNX: {_first_line(error)}") from error
    return model


def float_inputs(node: onnx.NodeProto, types: dict[str, int]) -> Iterator[int]:
    """Indices of the inputs that are fp32 tensors and follow the precision of the node."""
    for index, name in enumerate(node.input):
        # scales and regions of Resize are fp32 by definition
        if name and types.get(name) == TensorProto.FLOAT and not (node.op_type == "Resize" and index in (1, 2)):
            yield index
