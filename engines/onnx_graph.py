"""Reading, normalising and editing ONNX graphs of fusion networks.

Every graph is the one that :mod:`fusepipe.train.export` writes: ``infrared``, ``visible`` -> ``fused``, all
N x 1 x H x W uint8 luma. Nothing here executes a graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.engines.tensor_names import INPUTS, OUTPUT, SAMPLING_GRID

# The layers a precision applies to; everything else takes a few per cent of the time.
COMPUTE = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
_SCALING = frozenset({"Cast", "Div", "Mul"})
_ROUNDING = frozenset({"Cast", "Round", "Mul", "Clip"})


def read_graph(content: bytes, name: str) -> onnx.ModelProto:
    """Parses and normalises a graph: constants become initializers, casts of constants are folded, nodes get names.

    ``name`` is for messages. Raises :class:`EngineError` for files that are not valid ONNX or have weights that are
    not finite, :class:`UsageError` for inputs and outputs that are not uint8 luma.
    """
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's errors have no common base
        raise EngineError(f"{name}: is not a valid ONNX file ({_first_line(error)})") from error
    _check_interface(model, name)
    del model.graph.value_info[:]  # shapes noted by the exporter, invalid after the edits
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
    if set(tensors) - {SAMPLING_GRID} != {*INPUTS, OUTPUT}:
        raise UsageError(f"{name}: has {sorted(tensors)}; a fusion network has infrared, visible and fused")
    for tensor in tensors.values():
        if tensor.name == SAMPLING_GRID:
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
    """Folds casts of constants: weights stored in fp16 become fp32."""
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
    """An integer attribute; 0 if absent."""
    return next((int(a.i) for a in node.attribute if a.name == name), 0)


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Replaces all nodes of a graph, in order."""
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
    """``TensorProto`` type of every tensor; raises :class:`EngineError` if ONNX cannot infer them."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    except Exception as error:  # of onnx's C++ part, without a common base
        raise EngineError(f"the tensor types of this network cannot be inferred: {_first_line(error)}") from error
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    missing = [name for node in graph.node for name in node.output if name and name not in types]
    if missing:
        raise EngineError(f"the tensor types of this network cannot be inferred, such as that of {missing[0]!r}")
    return types


def rearranges(node: onnx.NodeProto, constants: dict[str, NDArray[np.generic]]) -> bool:
    """Whether a convolution only moves pixels, as pixel-unshuffle does (one weight of 1 per output)."""
    if node.op_type != "Conv" or len(node.input) > 2 or node.input[1] not in constants:
        return False
    weights = constants[node.input[1]].reshape(constants[node.input[1]].shape[0], -1)
    return bool(((weights != 0).sum(axis=1) == 1).all() and (weights.max(axis=1) == 1).all())


def compute_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes a precision applies to, in order."""
    constants = constant_values(model)
    return [node for node in model.graph.node if node.op_type in COMPUTE and not rearranges(node, constants)]


def core_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the compute nodes and of all nodes between them.

    Nodes before the first (scaling of the bytes) and after the last (mixing, clamping, rounding) are not part of it:
    they cost little and determine the grey levels, so they stay fp32.
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


def inner_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of all nodes but those that scale the bytes of the images and those that clip and round the result."""
    constants = {tensor.name for tensor in model.graph.initializer}
    outer: set[str] = set()
    scaled = set(INPUTS)
    for node in model.graph.node:
        if node.op_type in _SCALING and {name for name in node.input if name} <= scaled | constants:
            outer.add(node.name)
            scaled |= set(node.output)
    unrounded = OUTPUT
    for node in reversed(model.graph.node):
        if node.op_type in _ROUNDING and unrounded in node.output:
            outer.add(node.name)
            unrounded = node.input[0]
    return {node.name for node in model.graph.node} - outer


def parts(model: onnx.ModelProto, name: str) -> list[str]:
    """The tensors that are concatenated into ``name``, through nested Concat nodes; else ``name`` itself."""
    maker = next((node for node in model.graph.node if name in node.output), None)
    if maker is None or maker.op_type != "Concat":
        return [name]
    return [part for source in maker.input for part in parts(model, source)]


def set_metadata(model: onnx.ModelProto, **values: str) -> None:
    """Sets ``fusepipe.KEY`` of the file's metadata, replacing previous values."""
    kept = {entry.key: entry.value for entry in model.metadata_props}
    kept |= {f"fusepipe.{key}": value for key, value in values.items()}
    del model.metadata_props[:]
    for key, value in kept.items():
        model.metadata_props.add(key=key, value=value)


def metadata(model: onnx.ModelProto, key: str, default: str = "") -> str:
    """``fusepipe.KEY`` of the file's metadata."""
    return next((entry.value for entry in model.metadata_props if entry.key == f"fusepipe.{key}"), default)


def multiple_of(model: onnx.ModelProto) -> int:
    """The multiple that heights and widths are padded to: ``fusepipe.multiple`` of the metadata, 1 if absent.

    Raises :class:`EngineError` if it is not a positive integer.
    """
    written = metadata(model, "multiple", "1")
    if not written.isdecimal() or int(written) < 1:
        raise EngineError(f"the network's metadata have fusepipe.multiple = {written!r}, not a whole number from 1")
    return int(written)


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> bytes:
    """The graph, serialised, with inner tensors as additional outputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    types = element_types(model)
    for name in names:
        watched.graph.output.append(helper.make_tensor_value_info(name, types[name], None))
    return serialised(watched)


def serialised(model: onnx.ModelProto) -> bytes:
    """The bytes of the file; equal graphs have equal bytes."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, after ONNX's checker; raises :class:`EngineError` if it is invalid."""
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
