"""Converted graphs: which tensors become 16 bit or int8, which stay fp32, and how the results differ."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import build_request, smooth_image  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from fusepipe.core.errors import EngineError, UsageError  # noqa: E402
from fusepipe.core.frames import Luma8  # noqa: E402
from fusepipe.engines.backends.openvino.network import GraphRunner  # noqa: E402
from fusepipe.engines.builder.agreement import measure_agreement  # noqa: E402
from fusepipe.engines.builder.build import convert  # noqa: E402
from fusepipe.engines.builder.emulate import emulate  # noqa: E402
from fusepipe.engines.builder.half_precision import overflowing_nodes, to_half_precision  # noqa: E402
from fusepipe.engines.builder.quantise import Target, quantise  # noqa: E402
from fusepipe.engines.builder.tensor_ranges import absolute_maxima, compute_input_ranges  # noqa: E402
from fusepipe.engines.load import read_onnx  # noqa: E402
from fusepipe.engines.onnx_graph import (  # noqa: E402
    compute_nodes,
    core_nodes,
    element_types,
    metadata,
    parts,
    read_graph,
    serialised,
)

Pair = tuple[Luma8, Luma8]

PAIRS: list[Pair] = [(smooth_image(seed), smooth_image(seed + 50)) for seed in range(4)]
# sizes that were not calibrated on, odd ones among them
OTHERS: list[Pair] = [(smooth_image(h, h, w), smooth_image(w, h, w)) for h, w in ((37, 53), (120, 64), (2, 2))]


@pytest.fixture(scope="module", params=["stream", "densefuse", "densefuse-l1"])
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return read_graph(read_onnx(request.param), request.param)


def psnr_db(graph: onnx.ModelProto, reference: onnx.ModelProto, pairs: list[Pair] = OTHERS) -> float:
    given, expected = GraphRunner(serialised(graph)), GraphRunner(serialised(reference))
    images = [[runner.fuse(*pair) for pair in pairs] for runner in (expected, given)]
    return measure_agreement("fp32", pairs, *images).psnr_db


def small_graph(scale: float, *, second: float = 1.0) -> bytes:
    """uint8 -> two 1x1 convolutions that multiply by ``scale`` and ``second`` -> uint8, of infrared plus visible."""
    u8, f32 = TensorProto.UINT8, TensorProto.FLOAT
    shape = ["batch", 1, "height", "width"]
    nodes = [
        helper.make_node("Cast", ["infrared"], ["a"], to=f32),
        helper.make_node("Cast", ["visible"], ["b"], to=f32),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Conv", ["c", "w1"], ["d"], name="first"),
        helper.make_node("Relu", ["d"], ["e"], name="between"),
        helper.make_node("Conv", ["e", "w2"], ["f"], name="second"),
        helper.make_node("Clip", ["f", "low", "high"], ["g"]),
        helper.make_node("Round", ["g"], ["h"]),
        helper.make_node("Cast", ["h"], ["fused"], to=u8),
    ]
    constants = {"w1": [[[[scale]]]], "w2": [[[[second]]]], "low": 0.0, "high": 255.0}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, u8, shape) for name in ("infrared", "visible")],
        [helper.make_tensor_value_info("fused", u8, shape)],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    made.metadata_props.add(key="fusepipe.multiple", value="1")
    return made.SerializeToString()


def test_the_core_is_between_the_convolutions(model: onnx.ModelProto) -> None:
    core, compute = core_nodes(model), {node.name for node in compute_nodes(model)}
    assert compute <= core
    last = model.graph.node[-1]
    assert last.op_type == "Cast" and last.name not in core
    assert not {n.name for n in model.graph.node if set(n.input) & {"infrared", "visible"}} & core


def test_pixel_unshuffle_is_not_arithmetic() -> None:
    model = read_graph(read_onnx("stream"), "stream")
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    strided = [n for n in layers if any(a.name == "strides" and list(a.ints) == [2, 2] for a in n.attribute)]
    assert len(strided) == 2
    assert not {n.name for n in strided} & {n.name for n in compute_nodes(model)}


@pytest.mark.parametrize(("precision", "kind", "floor_db"), [("fp16", 10, 55.0), ("bf16", 16, 44.0)])
def test_16_bit_graphs_keep_the_image_and_uint8_inputs_and_outputs(
    model: onnx.ModelProto, precision: str, kind: int, floor_db: float
) -> None:
    low = to_half_precision(model, precision)
    types = element_types(low)
    for node in compute_nodes(low):
        assert {types[name] for name in (*node.input, *node.output)} == {kind}
    assert {types[name] for name in ("infrared", "visible", "fused")} == {TensorProto.UINT8}
    before_last = low.graph.node[-1].input[0]
    assert types[before_last] == TensorProto.FLOAT  # grey levels are made in fp32
    assert [d.dim_param for d in low.graph.input[0].type.tensor_type.shape.dim][2:] == ["height", "width"]
    assert floor_db < psnr_db(emulate(low), model) < 99.0  # 100 would mean that nothing was rounded
    assert metadata(low, "precision") == precision and metadata(low, "multiple") == metadata(model, "multiple")


@pytest.mark.parametrize("target", ["tensorrt", "cpu"])
def test_int8_graphs_keep_the_image(model: onnx.ModelProto, target: Target) -> None:
    graph = quantise(model, compute_input_ranges(model, PAIRS), target)
    producer = {name: node.op_type for node in graph.graph.node for name in node.output}
    kept = metadata(graph, "kept_fp32").split(",")
    last = [node.name for node in compute_nodes(model)][-1]
    outputs_the_image = target == "cpu" and metadata(model, "model") != "stream"  # whose head has 8 channels
    assert kept == [last if outputs_the_image else ""]
    for node in (node for node in compute_nodes(graph) if node.name not in kept):
        read = [*parts(graph, node.input[0]), node.input[1]]
        assert {producer[name] for name in read} == {"DequantizeLinear"}
    zeros = [numpy_helper.to_array(t) for t in graph.graph.initializer if t.name.endswith(".zero")]
    kinds = {str(zero.dtype) for zero in zeros}
    assert not any(zero.any() for zero in zeros), "symmetric: all zero points are 0"
    assert kinds == ({"int8"} if target == "tensorrt" else {"int8", "uint8"})
    steps = [numpy_helper.to_array(t) for t in graph.graph.initializer if t.name.endswith(".steps")]
    largest = max(int(np.abs(step.astype(int)).max()) for step in steps)
    assert largest == (127 if target == "tensorrt" else 64)
    assert psnr_db(emulate(graph), model, PAIRS) > 38.0


def test_int8_engines_for_gpus_move_sixteen_bits_between_their_layers(model: onnx.ModelProto) -> None:
    """A layer writes the type of its scales in a strongly typed network: fp32 scales made everything between fp32."""
    asked = build_request("tensorrt", "int8", onnx=serialised(model))
    graph = convert(asked, PAIRS[:1])
    types = element_types(graph)
    written = {types[node.output[0]] for node in compute_nodes(graph)}
    assert written == {TensorProto.FLOAT16}
    scales = [t for t in graph.graph.initializer if t.name.endswith(".scale")]
    assert {t.data_type for t in scales} == {TensorProto.FLOAT16} and all(
        numpy_helper.to_array(t).all() for t in scales
    )
    quantised = {node.output[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    computed = {name for node in emulate(graph).graph.node for name in node.output}
    assert not {f"{name}.wide" for name in quantised} & computed, "an int8 layer does not round what it reads to fp16"
    assert all(set(node.input[:2]) <= quantised for node in compute_nodes(graph) if node.op_type == "Conv")
    assert psnr_db(emulate(graph), model, PAIRS) > 38.0


def test_parts_of_a_concatenation_share_a_scale_and_the_core_reads_bytes_only_on_the_cpu() -> None:
    model = read_graph(read_onnx("stream"), "stream")
    seen = compute_input_ranges(model, PAIRS)
    features, weighed = (node for node in model.graph.node if node.op_type == "Concat")
    for target in ("cpu", "tensorrt"):
        graph = quantise(model, seen, target).graph
        scale = {
            t.name: float(numpy_helper.to_array(t))
            for t in graph.initializer
            if t.name.endswith(".scale") and not t.dims
        }
        reading = {name for node in graph.node if node.op_type == "Mul" for name in node.input}
        if target == "cpu":  # the features of both encoders go into the gate, and are weighted by it
            for concatenation in (features, weighed):
                first, second = concatenation.input
                assert scale[f"{first}.scale"] == scale[f"{second}.scale"]
            assert {f"{name}.dequantised" for name in features.input} <= reading
        else:
            assert set(features.input) <= reading and f"{features.output[0]}.scale" in scale


def test_the_cpus_int8_kernels_give_what_the_grid_says() -> None:
    """Half the range of weights keeps the 16-bit sums of CPUs without VNNI from saturating."""
    model = read_graph(read_onnx("stream"), "stream")
    graph = quantise(model, compute_input_ranges(model, PAIRS), "cpu")
    assert psnr_db(graph, emulate(graph), PAIRS) > 55.0


@pytest.mark.parametrize(("precision", "round_to"), [("fp16", np.float16), ("bf16", None)])
def test_the_emulated_rounding_is_numpys(precision: str, round_to: type | None) -> None:
    """A layer of weight 1 whose output shows the rounding of one number, compared with NumPy's own."""
    if round_to is None:
        import ml_dtypes

        round_to = ml_dtypes.bfloat16
    scale = 1.0 / 3.0
    graph = read_graph(small_graph(scale, second=100.0), "small")
    low = emulate(to_half_precision(graph, precision))
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    first = values.astype(np.float32).astype(round_to).astype(np.float32) * np.float32(np.array(scale, round_to))
    second = first.astype(round_to).astype(np.float32) * np.float32(np.array(100.0, round_to))
    expected = np.rint(np.clip(second.astype(round_to).astype(np.float32), 0, 255)).astype(np.uint8)
    assert np.array_equal(GraphRunner(serialised(low)).fuse(values, np.zeros_like(values)), expected)


def test_a_layer_that_overflows_in_fp16_stays_fp32() -> None:
    graph = read_graph(small_graph(1000.0, second=0.0005), "small")
    keep = overflowing_nodes(graph, absolute_maxima(graph, PAIRS, core_nodes(graph)))
    assert "first" in keep
    low = to_half_precision(graph, "fp16", keep)
    assert "first" in metadata(low, "kept_fp32").split(",")
    types = element_types(low)
    assert types["d"] == TensorProto.FLOAT
    expected = GraphRunner(serialised(graph)).fuse(*PAIRS[0])
    kept = GraphRunner(serialised(emulate(low))).fuse(*PAIRS[0])
    assert np.abs(kept.astype(int) - expected).max() <= 1
    # without that care, what overflows becomes infinite and the image is lost
    careless = GraphRunner(serialised(emulate(to_half_precision(graph, "fp16")))).fuse(*PAIRS[0])
    assert np.abs(careless.astype(int) - expected).max() > 50


def with_weight(value: float) -> bytes:
    model = onnx.load_model_from_string(read_onnx("stream"))
    tensor = next(t for t in model.graph.initializer if t.name.endswith("encoder.0.weight"))
    values = numpy_helper.to_array(tensor).copy()
    values.flat[3] = value
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_found(value: float) -> None:
    with pytest.raises(EngineError, match=r"not finite in .*encoder\.0\.weight"):
        read_graph(with_weight(value), "damaged")


def test_values_that_overflow_fp32_are_found() -> None:
    graph = read_graph(small_graph(1e38, second=1e38), "huge")
    with pytest.raises(EngineError, match="not finite"):
        absolute_maxima(graph, PAIRS, core_nodes(graph))


def test_other_files_are_refused() -> None:
    with pytest.raises(EngineError, match="not a valid ONNX file"):
        read_graph(b"\x00\x01 not a network", "notes.onnx")
    floats = onnx.load_model_from_string(read_onnx("stream"))
    floats.graph.input[0].name = "thermal"
    floats.graph.node[0].input[0] = "thermal"
    with pytest.raises((UsageError, EngineError)):
        read_graph(floats.SerializeToString(), "other.onnx")
