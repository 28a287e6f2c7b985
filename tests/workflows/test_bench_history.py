"""``fusepipe bench`` beside ffmpeg, beside an earlier measurement, and on record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fusepipe.cli import cli
from fusepipe.core.errors import UsageError
from fusepipe.workflows.bench import throughput
from fusepipe.workflows.bench.against import RunCost, cost_after_start, page_faults, peak_mib, rate_after_start
from fusepipe.workflows.bench.history import append_history, ratios, read_documents

SMALL = ["bench", "--size", "64x48,32x24", "--model", "mean", "--pairs", "24"]


def document(pairs_per_s: float, size: tuple[int, int] = (640, 480)) -> dict[str, Any]:
    return {
        "version": "1.0",
        "machine": {"cpu": "a CPU", "cores": 2},
        "engine": {"model": "mean", "backend": "numpy", "precision": "uint8"},
        "clips": {"visible_size": list(size), "infrared_size": [320, 240]},
        "end_to_end": {"pairs_per_s": pairs_per_s, "cpu_ms": 10.0},
        "stages": [{"name": "encode", "cpu_ms": 2.0}],
    }


def test_start_up_is_left_out_and_the_least_of_several_runs_counts() -> None:
    costs = [RunCost(100, 2.5, 1500), RunCost(400, 8.0, 1800), RunCost(100, 2.0, 1000), RunCost(400, 5.0, 1600)]
    assert cost_after_start(costs) == (10.0, 2.0)
    with pytest.raises(UsageError, match="--pairs"):
        cost_after_start(costs[:1])


def test_the_rate_after_start_up_is_that_of_the_pairs_beyond_the_short_run() -> None:
    costs = [RunCost(100, 1, wall_s=1.5), RunCost(400, 1, wall_s=4.0), RunCost(100, 1, wall_s=1.0)]
    assert rate_after_start(costs) == 100.0
    assert rate_after_start([RunCost(100, 1, wall_s=2.0), RunCost(400, 1, wall_s=2.0)]) == 0.0


def test_a_system_without_proc_counts_neither_pages_nor_memory(tmp_path: Path) -> None:
    assert page_faults(tmp_path) is None and peak_mib(tmp_path) is None
    (tmp_path / "stat").write_text("12 (fuse (1) pipe) S 1 2 3 4 5 6 777 0 0 0")
    assert page_faults(tmp_path) == 777
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t  204800 kB\n")
    assert peak_mib(tmp_path) == 200.0


def test_figures_are_compared_by_size_and_model() -> None:
    found = ratios([document(30), document(50, (1280, 720))], [document(20), document(100, (64, 48))])
    assert {(ratio.size, ratio.figure, round(ratio.ratio, 2)) for ratio in found} == {
        ("640x480,320x240", "pairs/s", 1.5),
        ("640x480,320x240", "CPU ms/pair", 1.0),
        ("640x480,320x240", "encode CPU ms", 1.0),
    }


def test_a_line_a_measurement_is_added_to_the_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append_history(path, [document(20)])
    append_history(path, [document(30), document(40, (64, 48))])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["version"], line["pairs/s"]) for line in lines] == [("1.0", 20.0), ("1.0", 30.0), ("1.0", 40.0)]
    with pytest.raises(UsageError, match="cannot be written"):
        append_history(tmp_path / "missing" / "history.jsonl", [document(20)])


def test_a_line_that_was_cut_off_does_not_swallow_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append_history(path, [])
    assert path.read_text() == ""
    path.write_text('{"version":"0')
    append_history(path, [document(20)])
    append_history(path, [document(30)])
    first, *lines = path.read_text().splitlines()
    assert first == '{"version":"0' and [json.loads(line)["pairs/s"] for line in lines] == [20.0, 30.0]


def test_a_history_that_cannot_be_written_is_found_out_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> None:
        raise AssertionError("measured first")

    monkeypatch.setattr(throughput, "measure_throughput", measured)
    result = CliRunner().invoke(cli, [*SMALL, "--history", str(tmp_path)])
    assert isinstance(result.exception, UsageError) and "cannot be written: Is a directory" in str(result.exception)


def test_the_history_says_what_other_programs_used(tmp_path: Path) -> None:
    found = document(20)
    found["end_to_end"]["cores_of_others"] = 1.5
    append_history(tmp_path / "history.jsonl", [found])
    assert json.loads((tmp_path / "history.jsonl").read_text())["cores of other programs"] == 1.5


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sizes": [{}]}', '{"sizes": 3}'])
def test_a_file_without_a_measurement_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"other\.json"):
        read_documents(path)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_measurement_against_ffmpeg_is_compared_with_itself(tmp_path: Path) -> None:
    first = CliRunner().invoke(cli, [*SMALL, "--against", "ffmpeg", "--json"], catch_exceptions=False)
    assert first.exit_code == 0, first.output
    measured = json.loads(first.stdout)
    assert measured["against"]["ours_cpu_ms"] > 0 and measured["against"]["peak_mib"] > 10
    (tmp_path / "first.json").write_text(first.stdout)
    words = [*SMALL, "--compare", str(tmp_path / "first.json"), "--history", str(tmp_path / "history.jsonl")]
    second = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert second.exit_code == 0 and "now/before" in second.output and "encode CPU ms" in second.output
    assert json.loads((tmp_path / "history.jsonl").read_text())["engine"] == "mean numpy uint8"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--soak", "50", "--against", "ffmpeg"], "--against cannot be combined"),
        (["--engines", "--sizes"], "--sizes cannot be combined"),
        (["--sizes", "--size", "64x48"], "--size and --sizes"),
        (["--compare", "missing.json"], "missing.json: cannot be read"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["bench", *words])
    assert isinstance(result.exception, UsageError) and message in str(result.exception)
