"""The interpolation of the warp: set in the parsed network, and noticed by the verification if it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import IMAGES, PAIRS, build_request, needs_rtx, without_torch

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt import runtime
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.backends.tensorrt.library import Library, load_library
from fusepipe.engines.builder import verify as verification
from fusepipe.engines.builder.agreement import REGISTERED, TOLERANCES, require_agreement
from fusepipe.engines.builder.build import convert
from fusepipe.engines.builder.emulate import emulate
from fusepipe.engines.builder.grid_sample import sampling_modes, set_interpolation
from fusepipe.engines.builder.request import BuildRequest
from fusepipe.engines.builder.tensorrt_plan import parse_network
from fusepipe.engines.onnx_graph import read_graph, serialised
from fusepipe.engines.verification import Agreement, Verification
from fusepipe.workflows.build_engine.image_pairs import verification_warp

pytestmark = pytest.mark.usefixtures("engine_cache")

MODES = SimpleNamespace(LINEAR="linear", NEAREST="nearest", CUBIC="cubic")


class OldLayer:
    """A grid-sample layer as parsers older than opset 20 leave it: nearest, whatever the graph says."""

    type = "grid"
    num_outputs = 0

    def __init__(self, name: str, *, stubborn: bool = False) -> None:
        self.name, self._stubborn, self._mode = name, stubborn, MODES.NEAREST

    @property
    def interpolation_mode(self) -> str:
        return self._mode

    @interpolation_mode.setter
    def interpolation_mode(self, mode: str) -> None:
        self._mode = self._mode if self._stubborn else mode


class OldParser:
    """The network that such a parser makes."""

    def __init__(self, layers: Sequence[OldLayer]) -> None:
        self.layers = [SimpleNamespace(name="conv", type="convolution", num_outputs=0), *layers]
        self.num_layers = len(self.layers)

    def get_layer(self, index: int) -> Any:
        return self.layers[index]


TRT = SimpleNamespace(
    LayerType=SimpleNamespace(GRID_SAMPLE="grid"),
    InterpolationMode=MODES,
    ILayer=type("ILayer", (), {}),
    IGridSampleLayer=OldLayer,
)


def warp_graph(precision: str = "fp32") -> tuple[BuildRequest, Any]:
    asked = build_request("tensorrt", precision, warp=True)
    return asked, convert(asked, PAIRS[:1])


def test_a_layer_that_was_parsed_as_nearest_is_set_to_what_the_graph_says() -> None:
    graph = serialised(warp_graph()[1])
    (name,) = sampling_modes(read_graph(graph, "stream").graph)
    layer = OldLayer(name)
    set_interpolation(TRT, OldParser([layer]), graph)
    assert layer.interpolation_mode == MODES.LINEAR


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (lambda name: [OldLayer(name, stubborn=True)], "keeps nearest, its graph says LINEAR"),
        (lambda name: [OldLayer(name), OldLayer("another")], "layer 'another' that the graph does not have"),
        (lambda name: [], "lacks the grid-sample layers warp.sampled"),
    ],
)
def test_a_layer_that_cannot_be_set_is_an_error(layers: Any, message: str) -> None:
    graph = serialised(warp_graph()[1])
    with pytest.raises(EngineError, match=message):
        set_interpolation(TRT, OldParser(layers(next(iter(sampling_modes(read_graph(graph, "stream").graph))))), graph)


def test_every_network_that_is_parsed_is_set() -> None:
    graph = serialised(warp_graph()[1])
    (name,) = sampling_modes(read_graph(graph, "stream").graph)
    layer = OldLayer(name)
    network = OldParser([layer])
    parser = SimpleNamespace(parse=lambda content: True)
    module = SimpleNamespace(
        Builder=lambda logger: SimpleNamespace(create_network=lambda flags: network),
        NetworkDefinitionCreationFlag=SimpleNamespace(),
        OnnxParser=lambda network, logger: parser,
        **vars(TRT),
    )
    parse_network(Library("tensorrt", module, "10.13", None, []), graph, [])
    assert layer.interpolation_mode == MODES.LINEAR


def test_the_warp_has_a_tolerance_of_its_own_in_every_precision() -> None:
    fair = Agreement("the fp32 ONNX", 1, 70.0, 1)
    for psnr_db, largest, agrees in ((97.0, 1, True), (45.0, 5, False), (60.0, 30, False)):
        result = Verification("x", True, (fair, Agreement(REGISTERED, 1, psnr_db, largest)))
        if agrees:
            require_agreement(result, "int8")
        else:
            with pytest.raises(EngineError, match="its image of the pair registered on the CPU"):
                require_agreement(result, "int8")


@needs_rtx
def test_the_parsed_network_interpolates_linearly() -> None:
    """With the installed library; TensorRT-RTX 1.5 parses the same graph as nearest."""
    library = load_library("tensorrt-rtx")
    trt = library.module
    network = parse_network(library, serialised(warp_graph()[1]), []).network
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    (layer,) = [layer for layer in layers if layer.type == trt.LayerType.GRID_SAMPLE]
    layer.__class__ = trt.IGridSampleLayer
    assert layer.interpolation_mode == trt.InterpolationMode.LINEAR


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("nearest", [False, True])
def test_the_verification_notices_a_warp_that_samples_nearest_neighbour(
    precision: str, nearest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On fake CUDA, whose plan is the graph; int8's own tolerance allows a nearest-neighbour warp of smooth scenes."""
    asked, model = warp_graph(precision)
    graph = serialised(model)
    for node in model.graph.node:
        for attribute in node.attribute:
            if nearest and node.op_type == "GridSample" and attribute.name == "mode":
                attribute.s = b"nearest"
    # emulated: int8 kernels of CPUs saturate at the weights of GPUs
    compiled, cuda = serialised(emulate(model)), FakeCuda()
    monkeypatch.setattr(verification, "find_spec", without_torch)
    monkeypatch.setattr(verification, "open_cuda", lambda device: cuda)
    monkeypatch.setattr(runtime, "TensorRtPlan", lambda *arguments, **options: FakePlan(cuda, compiled))
    asked = replace(asked, gpu=Gpu("Fake GPU", "SM89", "13.0", "13.0"))
    scenes = [(cv2.GaussianBlur(ir, (0, 0), 3.0), cv2.GaussianBlur(vis, (0, 0), 3.0)) for ir, vis in PAIRS[:2]]
    images = replace(IMAGES, verification=scenes, make_warp=verification_warp)
    result = verification.verify(asked, compiled, graph, images)
    whole, warped = result.agreements
    assert result.executed and warped.reference == REGISTERED
    if not nearest:
        require_agreement(result, precision)
        return
    if precision == "int8":
        assert whole.psnr_db > TOLERANCES["int8"].psnr_db and whole.max_abs < TOLERANCES["int8"].max_abs
    with pytest.raises(EngineError, match="does not agree with"):
        require_agreement(result, precision)
    assert warped.psnr_db < 40
