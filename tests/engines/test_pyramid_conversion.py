"""Converted graphs of pyramid networks: which levels become 16 bit, and what int8 leaves exact."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fusepipe[train]'")
pytest.importorskip("onnxscript", reason="export needs onnxscript: pip install 'fusepipe[train]'")
onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import PAIRS, RTX_INT8, build_request, needs_rtx  # noqa: E402
from onnx import TensorProto  # noqa: E402

from fusepipe.engines.backends.openvino.network import GraphRunner  # noqa: E402
from fusepipe.engines.builder.agreement import TOLERANCES, measure_agreement  # noqa: E402
from fusepipe.engines.builder.build import compile_engine  # noqa: E402
from fusepipe.engines.builder.emulate import emulate  # noqa: E402
from fusepipe.engines.builder.half_precision import lowered_nodes, overflowing_nodes, to_half_precision  # noqa: E402
from fusepipe.engines.builder.quantise import quantise  # noqa: E402
from fusepipe.engines.builder.tensor_ranges import absolute_maxima, compute_input_ranges  # noqa: E402
from fusepipe.engines.onnx_graph import compute_nodes, element_types, metadata, read_graph, serialised  # noqa: E402
from fusepipe.engines.tensor_names import COARSE_INPUTS  # noqa: E402
from fusepipe.train.export import export_pyramid  # noqa: E402
from fusepipe.train.networks.pyramid import PyramidNet  # noqa: E402


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Weights without training, large enough that mix, gates and gains vary from place to place."""
    torch.manual_seed(0)
    network = PyramidNet(16, 2).eval()
    with torch.no_grad():
        network.head.weight.mul_(20)
        network.sharpness.copy_(torch.tensor([1.0, 2.0]))
    path = tmp_path_factory.mktemp("pyramid") / "pyramid.onnx"
    export_pyramid(network, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def model(content: bytes) -> onnx.ModelProto:
    return read_graph(content, "pyramid")


def test_the_finer_levels_are_fp16_but_not_bf16(model: onnx.ModelProto) -> None:
    """Bytes are scaled, and the result clipped and rounded, in fp32; bf16 would round to grey levels at every step."""
    assert overflowing_nodes(model, absolute_maxima(model, PAIRS, lowered_nodes(model, "fp16"))) == []
    last_mix = [node for node in model.graph.node if node.op_type == "Add"][-1].output[0]
    pairs = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
    reference = GraphRunner(serialised(model))
    expected = [reference.fuse(*pair) for pair in PAIRS]
    for precision, kind in pairs.items():
        low = to_half_precision(model, precision)
        types = element_types(low)
        assert all(types[node.output[0]] == kind for node in compute_nodes(low))
        finer = {types[name] for name in (*COARSE_INPUTS, last_mix)}
        assert finer == {kind if precision == "fp16" else TensorProto.FLOAT}
        rounded = next(node for node in low.graph.node if node.op_type == "Round")
        assert types[rounded.input[0]] == TensorProto.FLOAT
        runner = GraphRunner(serialised(emulate(low)))
        found = measure_agreement("fp32", PAIRS, expected, [runner.fuse(*pair) for pair in PAIRS])
        limit = TOLERANCES[precision]
        assert limit.psnr_db + 3.0 < found.psnr_db < 99.0 and found.max_abs <= limit.max_abs


def test_int8_leaves_the_averages_of_the_images_exact(model: onnx.ModelProto) -> None:
    """OpenVINO would compute them in bytes, between the bytes of the images and the first int8 layer."""
    graph = quantise(model, compute_input_ranges(model, PAIRS), "cpu")
    assert metadata(graph, "kept_fp32") == ""
    kernels, grid = GraphRunner(serialised(graph)), GraphRunner(serialised(emulate(graph)))
    images = [[runner.fuse(*pair) for pair in PAIRS] for runner in (grid, kernels)]
    assert measure_agreement("the grid", PAIRS, *images).psnr_db > 60.0


@needs_rtx
@pytest.mark.parametrize("precision", ["fp16", "bf16", RTX_INT8])
def test_every_layer_of_a_plan_has_the_precision_asked_for(content: bytes, precision: str) -> None:
    compiled = compile_engine(build_request("tensorrt-rtx", precision, onnx=content), PAIRS[:1])
    assert list(compiled.layers.values()) == [precision] * 7 and compiled.kept_fp32 == ()
