"""The encoder of both images as one batch: the same images to the last bit, fewer layers, other graphs unchanged."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

import onnx
from helpers.engine_requests import PAIRS, build_request, compute_layers, needs_rtx
from onnx import helper

from fusepipe.core.models import NETWORKS
from fusepipe.engines.backends.openvino.network import GraphRunner
from fusepipe.engines.backends.tensorrt.library import load_library
from fusepipe.engines.builder.build import convert
from fusepipe.engines.builder.shared_encoder import batch_shared_encoder
from fusepipe.engines.builder.tensorrt_plan import parse_network
from fusepipe.engines.load import read_onnx
from fusepipe.engines.onnx_graph import checked, compute_nodes, read_graph, serialised, set_metadata, with_outputs
from fusepipe.engines.tensor_names import COARSE_OUTPUTS

PYRAMIDS = ["stream", "stream-hq"]


def feeds(batch: int) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(batch).integers(0, 256, (2, batch, 1, 64, 96), np.uint8)
    return {"infrared": noise[0], "visible": noise[1]}


def both_graphs(model: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """(as shipped, with the encoder batched)."""
    shipped, batched = (read_graph(read_onnx(model), model) for _ in range(2))
    assert batch_shared_encoder(batched) > 0
    return shipped, checked(batched)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("model", PYRAMIDS)
def test_the_tensors_are_equal_to_the_last_bit(model: str, batch: int) -> None:
    """Also inside, in fp32: rounding to bytes would hide small differences."""
    before, after = (
        GraphRunner(with_outputs(graph, COARSE_OUTPUTS)).computed(feeds(batch)) for graph in both_graphs(model)
    )
    for name in ("fused", *COARSE_OUTPUTS):
        assert np.array_equal(np.asarray(before[name]), np.asarray(after[name])), name
    assert np.asarray(after["fused"]).std() > 10


@pytest.mark.parametrize("model", PYRAMIDS)
def test_pytorch_gives_the_same(model: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'fusepipe[train]'")
    from fusepipe.engines.backends.torch.interpreter import TorchGraph

    images = [torch.from_numpy(image) for image in feeds(2).values()]
    before, after = (TorchGraph(graph)(*images) for graph in both_graphs(model))
    assert torch.equal(before, after)


@pytest.mark.parametrize("model", PYRAMIDS)
def test_no_layer_is_computed_twice(model: str) -> None:
    shipped, batched = both_graphs(model)
    names = [[node.input[1] for node in compute_nodes(graph)] for graph in (shipped, batched)]
    assert len(names[0]) > len(names[1]) == len(set(names[1])) == compute_layers(model, batched=True)


def test_graphs_for_gpus_have_it_and_those_for_cpus_do_not() -> None:
    for backend, count in (("openvino", compute_layers()), ("tensorrt-rtx", compute_layers(batched=True))):
        assert len(compute_nodes(convert(build_request(backend, "fp32"), PAIRS[:1]))) == count


@pytest.mark.parametrize("model", sorted(NETWORKS - set(PYRAMIDS)))
def test_other_networks_stay_as_they_are(model: str) -> None:
    graph = read_graph(read_onnx(model), model)
    content = serialised(graph)
    assert batch_shared_encoder(graph) == 0 and serialised(graph) == content


def test_a_layer_that_is_applied_twice_to_one_image_is_not_merged() -> None:
    """The second call reads what the first one gives: no order of the merged nodes exists."""
    image = [helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, ["N", 1, "H", "W"]) for name in "iv"]
    image[0].name, image[1].name = "infrared", "visible"
    weights = helper.make_tensor("w", onnx.TensorProto.FLOAT, (1, 1, 1, 1), [0.5])
    nodes = [
        helper.make_node("Cast", ["infrared"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w"], ["y"], "first"),
        helper.make_node("Conv", ["y", "w"], ["z"], "second"),
        helper.make_node("Cast", ["z"], ["fused"], to=onnx.TensorProto.UINT8),
    ]
    out = helper.make_tensor_value_info("fused", onnx.TensorProto.UINT8, ["N", 1, "H", "W"])
    made = helper.make_model(
        helper.make_graph(nodes, "twice", image, [out], [weights]), opset_imports=[helper.make_opsetid("", 20)]
    )
    set_metadata(made, sharpness="1")
    graph = read_graph(serialised(made), "twice")
    content = serialised(graph)
    assert batch_shared_encoder(graph) == 0 and serialised(graph) == content


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_tensorrt_rtx_reads_fewer_convolutions(precision: str) -> None:
    graph = convert(build_request("tensorrt-rtx", precision), PAIRS[:1])
    names = [node.name for node in compute_nodes(graph)]
    library = load_library("tensorrt-rtx")
    network = parse_network(library, serialised(graph), names).network
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    # and the one that makes cells of 2x2 pixels, for each image
    assert kinds.count(library.module.LayerType.CONVOLUTION) == compute_layers(batched=True) + 2
