"""Runs a graph once or watches tensors inside it, on this CPU: for calibration and for proofs, not for video."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8, Warp
from fusepipe.core.fuser import FusionBatch
from fusepipe.engines.tensor_names import PLACES
from fusepipe.engines.warp_grid import raw_infrared, sampling_grid

_COMPUTE_LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")


PREPARED = 1
"""Counted up when :func:`read_network` changes, so that what was compiled from older graphs is compiled anew."""


def read_network(core: Any, onnx: bytes) -> Any:
    """An ONNX network as OpenVINO's model, ready to compile; raises ``RuntimeError`` where OpenVINO cannot read it.

    Constants that several layers share (an encoder that sees both images) are given to each of them: OpenVINO's CPU
    plugin fuses only a bias of a layer's own, and adds a shared one, with all that follows, in fp32 behind it.
    """
    model = core.read_model(io.BytesIO(onnx))
    for op in list(model.get_ops()):
        if op.get_type_name() != "Constant" or op.get_element_type() != openvino.Type.f32:
            continue
        for reader in list(op.output(0).get_target_inputs())[1:]:
            reader.replace_source_output(openvino.op.Constant(op.data, shared_memory=False).output(0))
    return model


def read_multiple(graph: Any) -> int:
    """What heights and widths are padded to: ``fusepipe.multiple`` of an ONNX file's metadata, 1 without it.

    Raises ``RuntimeError``, as OpenVINO does, where it is no whole number from 1.
    """
    place = ["framework", "fusepipe.multiple"]
    written = str(graph.get_rt_info(place).value) if graph.has_rt_info(place) else "1"
    if not written.isdecimal() or int(written) < 1:
        raise RuntimeError(f"its metadata have fusepipe.multiple = {written!r}, not a whole number from 1")
    return int(written)


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
            graph = read_network(core, onnx)
            self._multiple = read_multiple(graph)
            self._compiled = core.compile_model(graph, "CPU", options)
            self.accepts_warp = PLACES in {port.get_any_name() for port in graph.inputs}
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run this network: {_last_line(error)}") from error

    def outputs(self, infrared: Luma8, visible: Luma8, warp: Warp | None = None) -> Mapping[str, NDArray[np.generic]]:
        """All outputs by name for one pair of HxW uint8; the edge is repeated up to the graph's multiple.

        A graph that registers by itself takes the raw infrared image with its ``warp``.
        """
        height, width = visible.shape
        pad = ((0, -height % self._multiple), (0, -width % self._multiple))
        feeds: dict[str, NDArray[Any]] = {"visible": np.pad(visible, pad, mode="edge")[None, None]}
        if self.accepts_warp:
            (raw,) = raw_infrared(FusionBatch((infrared,), (visible,), ("",), (warp,)))
            padded = feeds["visible"].shape[2:]
            grid = sampling_grid(warp, (raw.shape[0], raw.shape[1]), (padded[0], padded[1]))
            feeds |= {"infrared": raw[None, None], PLACES: grid[None]}
        else:
            feeds["infrared"] = np.pad(infrared, pad, mode="edge")[None, None]
        return self.computed(feeds)

    def computed(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[np.generic]]:
        """All outputs by name for whole inputs, N x 1 x H x W and ``places``, at the graph's multiple."""
        try:
            results = self._compiled(dict(feeds))
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run this network: {_last_line(error)}") from error
        return {name: value for port, value in results.items() for name in port.get_names()}

    def fuse(self, infrared: Luma8, visible: Luma8, warp: Warp | None = None) -> Luma8:
        """The fused HxW uint8 image of one pair."""
        height, width = visible.shape
        fused = self.outputs(infrared, visible, warp)["fused"][0, 0, :height, :width]
        return np.array(fused, np.uint8)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def layer_precisions(compiled: Any, nodes: Iterable[str], known: Iterable[str] = ()) -> dict[str, str]:
    """The precision (fp32, bf16, fp16, int8) in which the ONNX nodes named run in a compiled model.

    From the execution graph, which OpenVINO makes after all its choices: not from what was asked for. ``known``
    are the names of all such nodes: where OpenVINO folds a scale into a convolution it gives it a name of its own,
    and such layers stand for the nodes that are not found by name, in order. A node without a layer is left out.
    """
    names = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}
    listed = list(nodes)
    wanted, named = set(listed), {*listed, *known}
    found: dict[str, str] = {}
    renamed: list[str] = []
    for layer in compiled.get_runtime_model().get_ordered_ops():
        info = layer.get_rt_info()
        if str(info["layerType"].astype(str)) not in _COMPUTE_LAYERS:
            continue
        ran = str(info["runtimePrecision"].astype(str)).lower()
        origins = [part.split("/")[0] for part in str(info["originalLayersNames"].astype(str)).split(",")]
        origin = next((name for name in origins if name in wanted), None)
        if origin is not None:
            found[origin] = names.get(ran, ran)
        elif not named & set(origins):
            renamed.append(names.get(ran, ran))
    missing = [name for name in listed if name not in found]
    return found | dict(zip(missing, renamed, strict=False))


def openvino_version() -> str:
    """The version as manifests hold it."""
    return str(openvino.get_version()).split("-")[0]


def cpu_capabilities() -> list[str]:
    """What OpenVINO says the CPU is good at, such as ``BF16``; raises :class:`EngineError`."""
    try:
        return [str(name) for name in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")]
    except RuntimeError as error:
        raise EngineError(f"OpenVINO finds no CPU: {_last_line(error)}") from error


def convolution_macs(onnx: bytes, height: int, width: int) -> tuple[int, int]:
    """(multiply-accumulates for one pair of this size, width of the widest input) of a network's convolutions."""
    graph = openvino.Core().read_model(io.BytesIO(onnx))
    graph.reshape(dict.fromkeys(graph.inputs, (1, 1, height, width)))
    macs, channels = 0, 1
    for op in graph.get_ops():
        if op.get_type_name() != "Convolution":
            continue
        weights, output = list(op.input(1).get_shape()), list(op.output(0).get_shape())
        macs += int(np.prod(weights[1:])) * int(np.prod(output[1:]))
        channels = max(channels, int(weights[0]))
    return macs, channels


class ConvolutionChain:
    """Eight 3x3 convolutions of one width with ReLU: what this CPU reaches where nothing else is in the way."""

    LAYERS = 8

    def __init__(self, channels: int, height: int, width: int, precision: str) -> None:
        ops = openvino.opset13
        shape = [1, channels, height, width]
        source = ops.parameter(shape, np.float32)
        rng = np.random.default_rng(0)
        node = source
        for _ in range(self.LAYERS):
            weights = ops.constant(rng.normal(0, 0.1, (channels, channels, 3, 3)).astype(np.float32))
            if precision == "int8":
                node = _fake(node, 0.0, 4.0, 256)
                weights = _fake(weights, -0.5, 0.5, 255)
            ones = np.ones(2, np.int64)
            node = ops.relu(ops.convolution(node, weights, ones, ones, ones, ones))
        options = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32", "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = openvino.Core().compile_model(openvino.Model([node], [source]), "CPU", options)
        self._request = self._compiled.create_infer_request()
        self._feed = np.abs(rng.normal(0, 1, shape)).astype(np.float32)
        self.macs = self.LAYERS * 9 * channels * channels * height * width

    def run(self) -> None:
        """Computes it once."""
        self._request.infer([self._feed], share_inputs=True)


def _fake(node: Any, low: float, high: float, levels: int) -> Any:
    ops = openvino.opset13
    bounds = [ops.constant(np.array(value, np.float32)) for value in (low, high, low, high)]
    return ops.fake_quantize(node, *bounds, levels)
