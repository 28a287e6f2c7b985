"""``fusepipe bench --memory``: the largest memory of a run, and what of it each part holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fusepipe.cli import cli
from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.workflows.bench.memory import UNDER_WAY, MemoryPart, MemoryUse
from fusepipe.workflows.bench.memory_process import PROC_SELF, held_kib
from fusepipe.workflows.bench.own_process import in_own_process, run_peak_mib

SMALL = ["bench", "--memory", "--size", "64x48,32x24", "--model", "mean", "--pairs", "30"]


def test_the_floor_is_what_is_there_before_anything_is_opened() -> None:
    parts = [MemoryPart("python", 8, 7), MemoryPart("libraries", 41, 56), MemoryPart("encoder", 9, 1)]
    found = MemoryUse((640, 480), (320, 240), 60, 200.0, parts).as_json()
    assert (found["floor_mib"], found["above_floor_mib"]) == (112, 88)


def test_a_system_without_proc_reports_no_memory(tmp_path: Path) -> None:
    assert held_kib(tmp_path) == (0, 0)
    (tmp_path / "smaps_rollup").write_text("0-f ---p 0 0:0 0 [rollup]\nRss:  300 kB\nAnonymous:  100 kB\n")
    assert held_kib(tmp_path) == (100, 200)


@pytest.mark.serial
@pytest.mark.skipif(held_kib(PROC_SELF) == (0, 0), reason="this system does not report the memory of a process")
def test_the_parts_add_up_to_the_largest_memory_of_a_run() -> None:
    result = CliRunner().invoke(cli, [*SMALL, "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    sizes = {part["name"]: part["anonymous_mib"] + part["file_mib"] for part in found["parts"]}
    assert list(sizes)[:2] == ["python", "libraries"] and list(sizes)[-2:] == ["encoder", UNDER_WAY]
    assert sum(sizes.values()) == pytest.approx(found["peak_mib"], abs=0.5)
    assert sizes["libraries"] > 20 and sizes["encoder"] > 0
    assert abs(sizes[UNDER_WAY]) < 30, "of a small picture the parts explain the run"
    assert 0 < found["floor_mib"] < found["peak_mib"]


@pytest.mark.serial
def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    missing, sinks = {"url": str(tmp_path / "missing.mkv")}, [{"file": str(tmp_path / "fused.mkv")}]
    rig = {"name": "bench", "infrared": missing, "visible": missing, "sinks": sinks}
    with pytest.raises(FusepipeError, match=r"not measured: .*missing\.mkv"):
        run_peak_mib(tmp_path, rig, 60)
    with pytest.raises(FusepipeError, match=r"within 0\.001 s: use a longer --time-limit"):
        in_own_process(tmp_path, {"measure": "parts"}, 0.001)


@pytest.mark.parametrize("words", [["--soak", "50"], ["--engines"], ["--views"], ["--against", "ffmpeg"]])
def test_memory_is_measured_alone(words: list[str]) -> None:
    result = CliRunner().invoke(cli, [*SMALL, *words])
    assert isinstance(result.exception, UsageError) and "--memory" in str(result.exception)
