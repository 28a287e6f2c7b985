"""``fusepipe bench``: the arithmetic of the limit and of the slope, and a small measurement."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.waiting import wait_for

from fusepipe.cli import cli
from fusepipe.commands.bench import Sizes
from fusepipe.config.gain import AGC_MODES
from fusepipe.core.errors import UsageError
from fusepipe.core.view_settings import MODES
from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser
from fusepipe.engines.backends.openvino.network import convolution_macs
from fusepipe.engines.load import read_onnx
from fusepipe.rig.api import Pipeline
from fusepipe.workflows.bench import throughput
from fusepipe.workflows.bench.against import Against
from fusepipe.workflows.bench.clips import Clips
from fusepipe.workflows.bench.soak import held, slope_kib_per_1000
from fusepipe.workflows.bench.stages import StageCost, pairs_in_memory
from fusepipe.workflows.bench.throughput import BenchOptions, arithmetic_limit, busy_seconds

SMALL = ["--size", "64x48,32x24", "--model", "mean", "--json"]
STAGES = ["decode infrared", "decode visible", "pair", "register", "tone map", "fuse", "encode"]


def bench(*args: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["bench", *SMALL, *args], catch_exceptions=False)
    assert result.exit_code == 0
    document: dict[str, Any] = json.loads(result.output)
    return document


# -- arithmetic


def test_two_cores_make_a_hundred_pairs_of_twenty_milliseconds() -> None:
    assert arithmetic_limit(2.0, 20.0) == 100.0


def test_the_slope_is_that_of_a_leak() -> None:
    leaking = [(pairs, 100_000 + pairs * 3 // 1000) for pairs in range(0, 30_000, 1000)]
    assert slope_kib_per_1000(leaking) == pytest.approx(3.0)


def test_warm_up_in_the_first_third_is_not_a_leak() -> None:
    warming = [(pairs, 100_000 + min(pairs, 3000)) for pairs in range(0, 12_000, 100)]
    assert slope_kib_per_1000(warming) == pytest.approx(0.0)


def test_a_short_run_has_no_slope() -> None:
    assert slope_kib_per_1000([]) is None
    assert slope_kib_per_1000([(1, 5), (2, 5), (3, 6)]) is None
    assert slope_kib_per_1000([(7, 5)] * 30) is None  # no progress


def test_the_systems_busy_time_is_without_idle(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  1000 0 200 9999 7777 10 20 70 0 0\ncpu0 1 2 3\n")
    assert busy_seconds(stat) == pytest.approx(13.0)  # at 100 ticks a second, as everywhere
    assert busy_seconds(tmp_path / "nothing") is None


def test_a_system_without_proc_is_not_available(tmp_path: Path) -> None:
    nothing = held(tmp_path / "nothing")
    assert (nothing.rss_kib, nothing.threads, nothing.descriptors) == (None, None, None)
    here = held()
    assert here.rss_kib is not None and here.rss_kib > 10_000
    assert here.threads is not None and here.threads >= 1


def test_the_engine_is_compiled_before_the_measured_run_for_the_size_of_its_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[tuple[int, int] | str] = []
    preparing, starting = OpenVinoFuser.prepare, Pipeline.start

    def prepared(self: OpenVinoFuser, height: int, width: int, batch: int = 1) -> None:
        events.append((width, height))
        preparing(self, height, width, batch)

    def started(self: Pipeline) -> None:
        events.append("start")
        starting(self)

    def measured(*_: object) -> list[StageCost]:
        return []

    monkeypatch.setattr(OpenVinoFuser, "prepare", prepared)
    monkeypatch.setattr(Pipeline, "start", started)
    monkeypatch.setattr(throughput, "measure_stages", measured)
    throughput.measure_throughput(BenchOptions((128, 96), (64, 48), pairs=10, model="stream", backend="openvino"))
    assert events[:2] == [(64, 48), "start"], "half of the visible size"
    assert set(events) == {(64, 48), "start"}, "the run needs no other"


@pytest.mark.parametrize(("busy_s", "rate"), [(0.0, 100.0), (1e6, 0.0)])
def test_there_is_no_steady_rate_where_other_programs_used_the_cores(
    monkeypatch: pytest.MonkeyPatch, busy_s: float, rate: float
) -> None:
    seconds = iter((0.0, busy_s))
    monkeypatch.setattr(throughput, "busy_seconds", lambda: next(seconds))
    monkeypatch.setattr(throughput, "measure_stages", lambda *_: [])
    monkeypatch.setattr(throughput, "count_copies", lambda *_: [])
    monkeypatch.setattr(throughput, "run_peak_mib", lambda *_: None)
    monkeypatch.setattr(throughput, "find_ffmpeg", lambda: "ffmpeg")
    monkeypatch.setattr(throughput, "measure_against", lambda *_: Against(2.0, 1.0, 0.0, None, 100.0))
    report = throughput.measure_throughput(BenchOptions((64, 48), (32, 24), pairs=10, model="mean", against=True))
    assert report.against is not None and report.against.pairs_per_s == rate


def test_large_images_are_measured_with_fewer_pairs(tmp_path: Path) -> None:
    def kept(width: int, height: int, pairs: int) -> int:
        return pairs_in_memory(Clips(tmp_path, tmp_path, (320, 240), (width, height), pairs, 0.0))

    assert kept(640, 480, 300) == 100
    assert kept(640, 480, 30) == 30
    assert kept(1920, 1080, 300) == 32
    assert kept(8192, 8192, 300) == 8


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("640x480", ((640, 480), (320, 240))), ("640x480,160x120", ((640, 480), (160, 120)))],
)
def test_sizes_are_visible_then_infrared(text: str, sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    assert Sizes().convert(text, None, None) == sizes


def test_an_option_no_rig_could_have_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="preset: 'sloow'"):
        BenchOptions(model="mean").rig("a.mkv", "b.mkv", [{"file": "c.mkv", "preset": "sloow"}])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_measurement_leaves_no_clips_behind(tmp_path, number):
    command = [sys.executable, "-m", "fusepipe", "bench", "--model", "mean", "--pairs", "100000"]
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: list(tmp_path.glob("*/*")), 60)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err.splitlines()[-1]) == (130, "fusepipe: error: interrupted")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", ["2x2", "640x480,8x8", "99999x480"])
def test_a_size_beyond_the_limits_names_them(size):
    done = CliRunner().invoke(cli, ["bench", "--size", size])
    assert done.exit_code == 2 and "both images must be 16 to 9,999 pixels wide and high" in done.output


@pytest.mark.parametrize("wrong", [["--size", "640"], ["--size", "640x12"], ["--pairs", "0"], ["--model", "none"]])
def test_wrong_options_are_refused_before_anything_is_rendered(wrong: list[str]) -> None:
    result = CliRunner().invoke(cli, ["bench", *wrong])
    assert result.exit_code in (1, 2)  # 1: a UsageError, which only main() turns into 2
    assert isinstance(result.exception, SystemExit | UsageError)


# -- small measurements


def test_a_measurement_has_every_stage_and_the_limit_is_their_sum() -> None:
    document = bench("--pairs", "40")
    assert [stage["name"] for stage in document["stages"]] == STAGES
    total = sum(stage["cpu_ms"] for stage in document["stages"])
    assert document["stage_cpu_ms"] == pytest.approx(total, abs=0.01)
    assert document["limit_pairs_per_s"] == pytest.approx(document["machine"]["cores"] / total * 1e3, rel=0.01)
    run = document["end_to_end"]
    assert run["pairs"] == 40 and run["pairs_per_s"] > 0
    assert document["share_percent"] == pytest.approx(100 * run["pairs_per_s"] / document["limit_pairs_per_s"], abs=0.2)
    assert {"read-infrared", "read-visible", "pair", "register", "fuse", "write-1"} == set(run["thread_cpu_ms"])
    assert document["engine"]["model"] == "mean"
    assert document["clips"]["visible_size"] == [64, 48]


def test_a_measurement_for_people_says_what_was_reached() -> None:
    result = CliRunner().invoke(cli, ["bench", *SMALL[:-1], "--pairs", "12"], catch_exceptions=False)
    assert result.exit_code == 0
    for words in ("end to end", "limit", "reached", "decode visible", "mean on numpy"):
        assert words in result.output


def test_the_time_limit_ends_it_with_what_there_is() -> None:
    document = bench("--pairs", "5000", "--time-limit", "20ms")
    assert document["clips"]["pairs"] < 5000
    assert "time limit" in document["notes"][0]


def test_a_soak_run_counts_pairs_and_what_the_process_holds() -> None:
    document = bench("--soak", "150")
    assert document["pairs"] == 150 and document["finished"] is True
    assert document["after"]["threads"] <= document["before"]["threads"]
    assert document["after"]["descriptors"] <= document["before"]["descriptors"]


def test_a_soak_run_ends_at_the_time_limit() -> None:
    document = bench("--soak", "1000000", "--time-limit", "500ms")
    assert 0 < document["pairs"] < 1_000_000 and document["finished"] is False


@pytest.mark.slow
def test_nothing_grows_over_thousands_of_pairs() -> None:
    document = bench("--soak", "6000", "--time-limit", "60s")
    if document["slope_kib"] is None:
        pytest.skip("this system does not tell the memory of a process")
    assert document["slope_kib"] < 200  # one frame a thousand pairs kept would be 4; allocators need room
    # libraries start a thread of their own now and then; a leak would be one a pair
    assert document["after"]["threads"] <= document["before"]["threads"] + 4
    assert document["after"]["descriptors"] <= document["before"]["descriptors"] + 4


# -- engines


def multiply_accumulates(height: int, width: int) -> int:
    """Of the convolutions of the default network, by ONNX's own shapes; both sides multiples of 16."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")
    model = onnx.load_model_from_string(read_onnx("stream"))
    for tensor in model.graph.input:
        for axis, size in enumerate((1, 1, height, width)):
            tensor.type.tensor_type.shape.dim[axis].dim_value = size
    del model.graph.value_info[:], model.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inferred}
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return sum(
        math.prod(weights[node.input[1]][1:]) * math.prod(shapes[node.output[0]][1:])
        for node in model.graph.node
        if node.op_type == "Conv"
    )


def test_the_arithmetic_is_that_of_the_padded_size() -> None:
    assert convolution_macs(read_onnx("stream"), 64, 96)[0] == multiply_accumulates(64, 96) > 0
    assert convolution_macs(read_onnx("stream"), 63, 95) == convolution_macs(read_onnx("stream"), 64, 96)


def test_engines_are_measured_against_the_limit_and_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = ["bench", "--engines", "--size", "96x64", "--time-limit", "2s", "--json"]
    result = CliRunner().invoke(cli, words, obj=words)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    rows = {(row["backend"], row["precision"]): row for row in document["rows"]}
    ran = {f"{backend} {precision}" for backend, precision in rows}
    # each of them ran, or it is said why not
    assert ran | set(document["missing"]) >= {"torch fp32", "openvino fp32", "openvino bf16", "openvino int8"}
    fp32, int8 = rows["openvino", "fp32"], rows["openvino", "int8"]
    assert fp32["max_abs"] == 0 and int8["psnr_db"] > 36 and int8["max_abs"] > 0
    # nothing is faster than the arithmetic of bare convolutions, but for noise
    assert document["gmacs"] == pytest.approx(multiply_accumulates(64, 96) / 1e9, abs=0.001)
    assert min(fp32["of_limit"], int8["of_limit"]) > 0.5 and set(document["gops"]) >= {"fp32", "int8"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backend", "torch"], "--engines and --backend cannot be combined"),
        (["--precision", "int8"], "--engines and --precision"),
        (["--soak", "50"], "--engines and --soak"),
        (["--model", "strem"], "'stream'"),
        (["--model", "mean"], "unknown network 'mean'"),
    ],
)
def test_options_that_the_table_of_engines_lacks_are_refused(words: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["bench", "--engines", *words], obj=words)
    assert isinstance(result.exception, UsageError) and message in str(result.exception)


def test_every_view_is_measured_without_an_engine() -> None:
    result = CliRunner().invoke(
        cli, ["bench", "--views", "--size", "64x48", "--time-limit", "100ms", "--json"], catch_exceptions=False
    )
    rows = json.loads(result.output)["rows"]
    names = [row["view"] for row in rows]
    assert len(rows) == len(set(names)) and set(MODES) - {"blink"} <= set(names)
    assert all(row["size"] == [64, 48] and 0 <= row["least_ms"] <= row["median_ms"] for row in rows)
    refused = CliRunner().invoke(cli, ["bench", "--views", "--model", "mean"])
    assert "--views runs without an engine" in str(refused.exception or refused.output)


def test_every_mode_of_gain_control_is_measured() -> None:
    words = ["bench", "--agc", "--size", "64x48", "--time-limit", "100ms"]
    rows = json.loads(CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False).output)["rows"]
    modes = [mode for mode in AGC_MODES if mode not in ("auto", "off")]
    assert [row["mode"] for row in rows] == [name for mode in modes for name in (mode, f"{mode}, measuring")]
    assert all(row["size"] == [64, 48] and 0 < row["least_ms"] <= row["median_ms"] for row in rows)
    text = CliRunner().invoke(cli, words, catch_exceptions=False).output
    assert "plateau, measuring" in text and "64x48" in text
    refused = CliRunner().invoke(cli, ["bench", "--views", "--agc"])
    assert "--views and --agc cannot be combined" in str(refused.exception or refused.output)
