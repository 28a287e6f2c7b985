"""OpenVINO graphs outside of video: running a graph once, reading its layers' precisions, measuring the CPU."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8, Warp
from fusepipe.core.fuser import FusionBatch
from fusepipe.engines.backends.openvino.library import openvino, opset
from fusepipe.engines.backends.openvino.pyramid import COARSE_SCALE
from fusepipe.engines.sampling_grid import normalised_grid, prefiltered_infrared
from fusepipe.engines.tensor_names import COARSE_INPUTS, COARSE_OUTPUTS, SAMPLING_GRID

_COMPUTE_LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")


PREPARED = 2
"""Version of :func:`read_network` and :func:`coarse_part`: incremented with each change, so that cached compiled
graphs are rebuilt."""


_core_lock = threading.Lock()
_cores: list[Any] = []


def shared_core() -> Any:
    """The one ``openvino.Core`` of the process, created at first use and kept until Python exits.

    The CPU plugin gives the thread that loads it an alternate signal stack, and unmaps that stack when the plugin is
    released. Released in another thread (a fuser closed there, or garbage collected) it leaves the first thread with a
    stack that no longer exists, and the next signal, such as Ctrl-C, kills the process with SIGSEGV. A core that is
    never released keeps the plugin loaded. (``SigAltStackSetup`` of OpenVINO's CPU plugin, seen with 2026.4.1.)
    """
    with _core_lock:
        if not _cores:
            _cores.append(openvino.Core())
        return _cores[0]


def read_network(core: Any, onnx: bytes) -> Any:
    """An ONNX network as an OpenVINO model, ready to compile; raises ``RuntimeError`` if OpenVINO cannot read it.

    Constants shared by several layers (an encoder applied to both images) are duplicated: OpenVINO's CPU plugin fuses
    only a bias that no other layer uses; a shared one, and all that follows, would be computed in fp32. In pyramid
    networks the bytes pass a rounding without effect: OpenVINO would compute the averages of an int8 graph's images in
    bytes, rounding them at each level.
    """
    model = core.read_model(io.BytesIO(onnx))
    if read_sharpness(model):
        for op in [reader.get_node() for port in model.inputs for reader in port.get_target_inputs()]:
            readers = list(op.output(0).get_target_inputs())
            rounded = opset.round(op, "half_to_even").output(0)
            for reader in readers:
                reader.replace_source_output(rounded)
    for op in list(model.get_ops()):
        if op.get_type_name() != "Constant" or op.get_element_type() != openvino.Type.f32:
            continue
        for reader in list(op.output(0).get_target_inputs())[1:]:
            reader.replace_source_output(openvino.op.Constant(op.data, shared_memory=False).output(0))
    return model


def read_multiple(graph: Any) -> int:
    """The multiple that heights and widths are padded to: ``fusepipe.multiple`` of the ONNX metadata, 1 if absent.

    Raises ``RuntimeError``, as OpenVINO does, if it is not a positive integer.
    """
    place = ["framework", "fusepipe.multiple"]
    written = str(graph.get_rt_info(place).value) if graph.has_rt_info(place) else "1"
    if not written.isdecimal() or int(written) < 1:
        raise RuntimeError(f"its metadata have fusepipe.multiple = {written!r}, not a whole number from 1")
    return int(written)


def read_sharpness(graph: Any) -> tuple[float, ...]:
    """``fusepipe.sharpness`` of a pyramid network, one number for each level, finest first; empty for other networks.

    Raises ``RuntimeError``, as OpenVINO does, for anything but numbers.
    """
    place = ["framework", "fusepipe.sharpness"]
    if not graph.has_rt_info(place):
        return ()
    written = str(graph.get_rt_info(place).value)
    try:
        return tuple(float(value) for value in written.split())
    except ValueError as error:
        raise RuntimeError(f"its metadata have fusepipe.sharpness = {written!r}, not numbers") from error


def coarse_part(graph: Any) -> Any:
    """The part of a pyramid network's graph that computes its coarsest level, as a model of its own.

    Inputs: both coarse images, N x 1 x h x w float32 in 1/32 of grey levels. Outputs: the coarse fused image, gates and
    gains in fp32, for :class:`~fusepipe.engines.backends.openvino.pyramid.Pyramid`. Modifies ``graph``. Raises
    ``RuntimeError`` if these tensors are missing.
    """
    named = {name: port for op in graph.get_ops() for port in op.outputs() for name in port.get_names()}
    missing = [name for name in (*COARSE_INPUTS, *COARSE_OUTPUTS) if name not in named]
    if missing:
        raise RuntimeError(f"its metadata describe a pyramid network, but it has no {', '.join(missing)}")
    parameters = []
    for name in COARSE_INPUTS:
        parameter = opset.parameter([-1, 1, -1, -1], np.float32, name=name)
        parameter.output(0).set_names({name})
        scaled = opset.multiply(parameter, np.float32(1 / COARSE_SCALE))
        named[name].set_names(set())
        for reader in list(named[name].get_target_inputs()):
            reader.replace_source_output(scaled.output(0))
        parameters.append(parameter)
    results = [opset.result(named[name]) for name in COARSE_OUTPUTS]
    return openvino.Model(results, parameters)


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
            core = shared_core()
            graph = read_network(core, onnx)
            self._multiple = read_multiple(graph)
            self._compiled = core.compile_model(graph, "CPU", options)
            self.accepts_warp = SAMPLING_GRID in {port.get_any_name() for port in graph.inputs}
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run this network: {last_line(error)}") from error

    def outputs(self, infrared: Luma8, visible: Luma8, warp: Warp | None = None) -> Mapping[str, NDArray[np.generic]]:
        """All outputs by name for one pair of HxW uint8; the edge is repeated up to the graph's multiple.

        A graph with the warp takes the raw infrared image and its ``warp``.
        """
        height, width = visible.shape
        pad = ((0, -height % self._multiple), (0, -width % self._multiple))
        feeds: dict[str, NDArray[Any]] = {"visible": np.pad(visible, pad, mode="edge")[None, None]}
        if self.accepts_warp:
            (raw,) = prefiltered_infrared(FusionBatch((infrared,), (visible,), ("",), (warp,)))
            padded = feeds["visible"].shape[2:]
            grid = normalised_grid(warp, (raw.shape[0], raw.shape[1]), (padded[0], padded[1]))
            feeds |= {"infrared": raw[None, None], SAMPLING_GRID: grid[None]}
        else:
            feeds["infrared"] = np.pad(infrared, pad, mode="edge")[None, None]
        return self.computed(feeds)

    def computed(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[np.generic]]:
        """All outputs by name for padded inputs: images N x 1 x H x W and the sampling grid."""
        try:
            results = self._compiled(dict(feeds))
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run this network: {last_line(error)}") from error
        return {name: value for port, value in results.items() for name in port.get_names()}

    def fuse(self, infrared: Luma8, visible: Luma8, warp: Warp | None = None) -> Luma8:
        """The fused HxW uint8 image of one pair."""
        height, width = visible.shape
        fused = self.outputs(infrared, visible, warp)["fused"][0, 0, :height, :width]
        return np.array(fused, np.uint8)


def last_line(error: BaseException) -> str:
    """The last line of OpenVINO's message, which names the cause; the lines before it are its own call stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def layer_precisions(compiled: Any, nodes: Iterable[str], known: Iterable[str] = ()) -> dict[str, str]:
    """The precision (fp32, bf16, fp16, int8) in which the ONNX nodes named run in a compiled model.

    Read from the execution graph, after all of OpenVINO's decisions, not from what was requested. ``known`` are the
    names of all such nodes: where OpenVINO folds a scale into a convolution it renames the layer, and renamed layers
    are assigned, in order, to the nodes not found by name. A node without a layer is left out.
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
    """The version of OpenVINO, as in manifests."""
    return str(openvino.get_version()).split("-")[0]


def cpu_capabilities() -> list[str]:
    """OpenVINO's optimisation capabilities of the CPU, such as ``BF16``; raises :class:`EngineError`."""
    try:
        return [str(name) for name in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")]
    except RuntimeError as error:
        raise EngineError(f"OpenVINO finds no CPU: {last_line(error)}") from error


def convolution_macs(onnx: bytes, height: int, width: int) -> tuple[int, int]:
    """(multiply-accumulates for one pair of this size, width of the widest input) of a network's convolutions.

    The size is rounded up to the network's multiple.
    """
    graph = shared_core().read_model(io.BytesIO(onnx))
    multiple = read_multiple(graph)
    padded = (-(-side // multiple) * multiple for side in (height, width))
    graph.reshape(dict.fromkeys(graph.inputs, (1, 1, *padded)))
    macs, channels = 0, 1
    for op in graph.get_ops():
        if op.get_type_name() != "Convolution":
            continue
        weights, output = list(op.input(1).get_shape()), list(op.output(0).get_shape())
        macs += int(np.prod(weights[1:])) * int(np.prod(output[1:]))
        channels = max(channels, int(weights[0]))
    return macs, channels


def convolution_values(onnx: bytes, height: int, width: int) -> int:
    """How many values a network's convolutions read and write for one pair of this size: inputs, weights, outputs.

    The size is rounded up to the network's multiple. Times the bytes of a value this is the most memory traffic there
    is: what the next convolution finds in a cache, or computes in one pass with this one, is less.
    """
    graph = shared_core().read_model(io.BytesIO(onnx))
    multiple = read_multiple(graph)
    padded = (-(-side // multiple) * multiple for side in (height, width))
    graph.reshape(dict.fromkeys(graph.inputs, (1, 1, *padded)))
    convolutions = [op for op in graph.get_ops() if op.get_type_name() == "Convolution"]
    shapes = [list(port.get_shape()) for op in convolutions for port in (op.input(0), op.input(1), op.output(0))]
    return sum(int(np.prod(shape)) for shape in shapes)


class ConvolutionChain:
    """Eight 3x3 convolutions with ReLU of one width: a benchmark of the CPU's peak convolution rate."""

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
        self._compiled = shared_core().compile_model(openvino.Model([node], [source]), "CPU", options)
        self._request = self._compiled.create_infer_request()
        self._feed = np.abs(rng.normal(0, 1, shape)).astype(np.float32)
        self.macs = self.LAYERS * 9 * channels * channels * height * width

    def run(self) -> None:
        """Runs it once."""
        self._request.infer([self._feed], share_inputs=True)


def _fake(node: Any, low: float, high: float, levels: int) -> Any:
    ops = openvino.opset13
    bounds = [ops.constant(np.array(value, np.float32)) for value in (low, high, low, high)]
    return ops.fake_quantize(node, *bounds, levels)
