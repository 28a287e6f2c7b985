"""Interpolation of the grid-sample layers of a parsed network: set to what the graph says, and read back.

Parsers of TensorRT up to 10.13 and of TensorRT-RTX up to 1.5 compare ``mode`` with the names it had before opset 20
(``bilinear``) and take ``linear`` for nearest-neighbour, without a warning (NVIDIA/TensorRT#4646).
"""

from __future__ import annotations

from typing import Any

import onnx

from fusepipe.core.errors import EngineError

_MODES = {
    "linear": "LINEAR",
    "bilinear": "LINEAR",
    "nearest": "NEAREST",
    "cubic": "CUBIC",
    "bicubic": "CUBIC",
}
_DEFAULT = "linear"


def sampling_modes(graph: onnx.GraphProto) -> dict[str, str]:
    """TensorRT's name of the interpolation of each GridSample node, by node name."""
    modes = {}
    for node in graph.node:
        if node.op_type == "GridSample":
            written = next((a.s.decode() for a in node.attribute if a.name == "mode"), _DEFAULT)
            modes[node.name] = _MODES[written]
    return modes


def set_interpolation(trt: Any, network: Any, graph: bytes) -> None:
    """Sets the interpolation of every grid-sample layer of a parsed network.

    Raises :class:`EngineError` for a layer that is not a node of the graph, a node without a layer, or a layer that
    does not keep its mode.
    """
    modes = sampling_modes(onnx.load_model_from_string(graph).graph)
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        if layer.type != trt.LayerType.GRID_SAMPLE:
            continue
        wanted = modes.pop(layer.name, None)
        if wanted is None:
            raise EngineError(f"the parsed network has a grid-sample layer {layer.name!r} that the graph does not have")
        if type(layer) is trt.ILayer:
            layer.__class__ = trt.IGridSampleLayer  # the binding returns the base class; NVIDIA's way to cast
        mode = getattr(trt.InterpolationMode, wanted)
        layer.interpolation_mode = mode
        if layer.interpolation_mode != mode:
            raise EngineError(f"the layer {layer.name!r} keeps {layer.interpolation_mode}, its graph says {wanted}")
    if modes:
        raise EngineError(f"the parsed network lacks the grid-sample layers {', '.join(sorted(modes))}")
