"""The roofline: what the picture shows, the traffic of a network, and the command."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from fusepipe.cli import cli
from fusepipe.core.errors import UsageError
from fusepipe.engines.backends.openvino.network import convolution_values
from fusepipe.workflows.bench.roofline import copy_bandwidth
from fusepipe.workflows.bench.roofline_picture import Ceiling, Computation, roofline_svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn() -> ElementTree.Element:
    ceilings = [Ceiling("fp32", 100.0), Ceiling("int8", 1000.0)]
    points = [Computation("net 64x48", "fp32", 10.0, 50.0), Computation("net 64x48", "int8", 100.0, 500.0)]
    return ElementTree.fromstring(roofline_svg("a <CPU> & more", ceilings, 10.0, points))


def test_the_roofs_rise_with_the_bandwidth_to_their_ceilings_and_the_points_are_below() -> None:
    picture = drawn()
    circles = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in picture.iter(f"{SVG}circle")]
    lines = [line.attrib["points"].split() for line in picture.iter(f"{SVG}polyline")]
    roofs = [[tuple(map(float, corner.split(","))) for corner in line] for line in lines]
    fp32, int8 = roofs
    assert fp32[1][0] == pytest.approx(circles[0][0])  # 100 GOP/s / 10 GB/s: the first point is at the ridge
    assert int8[1][0] == pytest.approx(circles[1][0])
    decade_px = int8[1][0] - fp32[1][0]
    half_px = (int8[1][1] - fp32[1][1]) * math.log10(0.5)  # of the vertical axis
    assert decade_px > 50
    assert circles[0][1] == pytest.approx(fp32[1][1] + half_px, abs=0.2)
    assert circles[1][1] == pytest.approx(int8[1][1] + half_px, abs=0.2)


def test_names_are_escaped_and_every_point_is_in_the_legend() -> None:
    texts = [text.text for text in drawn().iter(f"{SVG}text")]
    assert "a <CPU> & more" in texts
    assert {"1  net 64x48 fp32: 50 GOP/s", "2  net 64x48 int8: 500 GOP/s", "slope: 10 GB/s of memory"} <= set(texts)


def test_the_traffic_is_what_each_convolution_reads_and_writes() -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    weights = [
        helper.make_tensor(name, real, shape, [0.0] * math.prod(shape))
        for name, shape in (("w1", (4, 1, 3, 3)), ("w2", (1, 4, 1, 1)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["y", "w2"], ["z"]),
    ]
    shape = [1, 1, "h", "w"]
    ends = [helper.make_tensor_value_info(name, real, shape) for name in ("x", "z")]
    graph = helper.make_graph(nodes, "two", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    values = convolution_values(model.SerializeToString(), 8, 16)
    assert values == (128 + 36 + 512) + (512 + 4 + 128)


def test_the_bandwidth_of_copies_is_that_of_a_memory() -> None:
    assert 0.05 < copy_bandwidth(1, 0.0) < 5000


def test_the_picture_must_be_named_svg(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.png: the picture is SVG; name it \.svg"):
        CliRunner().invoke(cli, ["bench", "--roofline", str(tmp_path / "a.png")], catch_exceptions=False)


@pytest.mark.slow
def test_the_command_measures_each_precision_and_draws_it(tmp_path: Path) -> None:
    picture = tmp_path / "roof.svg"
    options = ["--size", "64x48", "--model", "stream", "--time-limit", "1s", "--json"]
    result = CliRunner().invoke(cli, ["bench", "--roofline", str(picture), *options], catch_exceptions=False)
    assert result.exit_code == 0
    measured = json.loads(result.output)
    assert {"fp32", "int8"} <= set(measured["ceilings"]) and measured["bandwidth"] > 0
    assert [row["model"] for row in measured["rows"]] == ["stream"] * len(measured["ceilings"])
    assert all(row["gops"] > 0 and row["intensity"] > 0 for row in measured["rows"])
    assert len(list(ElementTree.parse(picture).getroot().iter(f"{SVG}circle"))) == len(measured["rows"])
