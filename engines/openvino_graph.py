"""Runs a graph once or watches tensors inside it, on this CPU: for calibration and for proofs, not for video."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from fusepipe.errors import EngineError
from fusepipe.frames import Luma8

_COMPUTE_LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")


class GraphRunner:
    """An ONNX graph with inputs ``infrared`` and ``visible``, N x 1 x H x W uint8, computed in fp32.

    Graphs with Q/DQ compute their quantised layers in int8, as OpenVINO does everywhere. Raises
    :class:`EngineError` for a graph that OpenVINO cannot read or run.
    """

    def __init__(self, onnx: bytes, *, threads: int = 0) -> None:
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            core = openvino.Core()
            graph = core.read_model(io.BytesIO(onnx))
            multiple = graph.get_rt_info(["framework", "fusepipe.multiple"])
            self._multiple = int(multiple.value)
            self._compiled = core.compile_model(graph, "CPU", options)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run this network: {_last_line(error)}") from error

    def outputs(self, infrared: Luma8, visible: Luma8) -> Mapping[str, NDArray[np.generic]]:
        """All outputs by name for one pair of HxW uint8; the edge is repeated up to the graph's multiple."""
        height, width = visible.shape
        pad = ((0, -height % self._multiple), (0, -width % self._multiple))
        feeds = [np.pad(image, pad, mode="edge")[None, None] for image in (infrared, visible)]
        try:
            results = self._compiled(feeds)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run this network: {_last_line(error)}") from error
        return {name: value for port, value in results.items() for name in port.get_names()}

    def fuse(self, infrared: Luma8, visible: Luma8) -> Luma8:
        """The fused HxW uint8 image of one pair."""
        height, width = visible.shape
        fused = self.outputs(infrared, visible)["fused"][0, 0, :height, :width]
        return np.array(fused, np.uint8)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def layer_precisions(compiled: Any, nodes: Iterable[str]) -> dict[str, str]:
    """The precision (fp32, bf16, fp16, int8) in which the ONNX nodes named run in a compiled model.

    From the execution graph, which OpenVINO makes after all its choices: not from what was asked for. A node
    that is not found in it is left out.
    """
    names = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}
    wanted, found = set(nodes), {}
    for layer in compiled.get_runtime_model().get_ordered_ops():
        info = layer.get_rt_info()
        if str(info["layerType"].astype(str)) not in _COMPUTE_LAYERS:
            continue
        ran = str(info["runtimePrecision"].astype(str)).lower()
        # the first of the fused layers is the one that computes
        origin = str(info["originalLayersNames"].astype(str)).split(",")[0].split("/")[0]
        if origin in wanted:
            found[origin] = names.get(ran, ran)
    return found


def openvino_version() -> str:
    """The version as manifests hold it."""
    return str(openvino.get_version()).split("-")[0]


def cpu_capabilities() -> list[str]:
    """What OpenVINO says the CPU is good at, such as ``BF16``; raises :class:`EngineError`."""
    try:
        return [str(name) for name in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")]
    except RuntimeError as error:
        raise EngineError(f"OpenVINO finds no CPU: {_last_line(error)}") from error
