"""Adds the registration warp to a network's graph, so that the engine registers the infrared image.

The graph then takes the infrared image at the size of its camera, and one more input: ``sampling_grid``, N x H x W x 2
float32 at the visible size. The image is sampled bilinearly and rounded to whole grey levels, as OpenCV's remap does on
the CPU; outside the infrared camera's view its edge pixels are repeated.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from fusepipe.core.errors import EngineError
from fusepipe.engines.onnx_graph import attribute, checked, replace_nodes, set_metadata
from fusepipe.engines.tensor_names import INPUTS, SAMPLING_GRID

_BEFORE_LINEAR = 20  # until then GridSample called its mode "bilinear"


def add_warp(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph, of any precision, that registers the infrared image.

    ``sampling_grid`` is :func:`fusepipe.engines.sampling_grid.normalised_grid`. Raises :class:`EngineError` for a graph
    that does not begin by casting the infrared image to fp32.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph, infrared = result.graph, INPUTS[0]
    casts = [node for node in graph.node if infrared in node.input]
    if any(node.op_type != "Cast" or attribute(node, "to") != TensorProto.FLOAT for node in casts):
        raise EngineError("the warp needs a network that begins by casting its images to fp32")
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    linear = "linear" if opset >= _BEFORE_LINEAR else "bilinear"
    sampling = {"mode": linear, "padding_mode": "border", "align_corners": 0}
    made = [
        _node("Cast", [infrared], "warp.infrared", to=TensorProto.FLOAT),
        _node("GridSample", ["warp.infrared", SAMPLING_GRID], "warp.sampled", **sampling),
        _node("Round", ["warp.sampled"], "warp.registered"),
    ]
    registered = {node.output[0] for node in casts}
    kept = [node for node in graph.node if node not in casts]
    for node in kept:
        for index, name in enumerate(node.input):
            if name in registered:
                node.input[index] = "warp.registered"
    replace_nodes(graph, [*made, *kept])
    sides = next(tensor for tensor in graph.input if tensor.name == infrared).type.tensor_type.shape.dim
    sides[2].dim_param, sides[3].dim_param = "infrared_height", "infrared_width"
    shape = ["batch", "height", "width", 2]
    graph.input.append(helper.make_tensor_value_info(SAMPLING_GRID, TensorProto.FLOAT, shape))
    set_metadata(result, warp="1")
    return checked(result)


def _node(kind: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], f"{output}.node", **attributes)
