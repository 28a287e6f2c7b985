"""``scripts/gpu_acceptance``: its whole flow on the test double, its time limits, and what it says without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")
pytest.importorskip("torch", reason="torch is not installed: pip install 'fusepipe[train]'")

from helpers.engine_requests import needs_rtx, padding_multiple

from fusepipe.core.errors import EngineError
from fusepipe.core.fuser import FuserInfo
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.backends.tensorrt.runtime import TensorRtFuser
from fusepipe.engines.choose import gpu_here
from fusepipe.engines.load import read_onnx
from fusepipe.engines.manifest import Shapes
from fusepipe.workflows.gpu_acceptance.acceptance import PAGE, REPORT, AcceptanceOptions, run_acceptance
from fusepipe.workflows.gpu_acceptance.acceptance_page import acceptance_page
from fusepipe.workflows.gpu_acceptance.acceptance_report import AcceptanceReport, StepReport
from fusepipe.workflows.gpu_acceptance.acceptance_steps import RateStep
from fusepipe.workflows.gpu_acceptance.limited_process import run_limited
from fusepipe.workflows.gpu_acceptance.pair_rates import measure_rate, rate_of

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_acceptance"
A_PROJECT = """
import pytest

def test_on_the_fake(): pass

@pytest.mark.gpu
def test_on_the_gpu(): assert "<b>" == "what the GPU gave"
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_rtx
def test_a_dry_run_does_every_step_and_a_failed_one_does_not_stop_it(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "tests" / "engines").mkdir(parents=True)
    (project / "tests" / "engines" / "test_fuser_contract.py").write_text(A_PROJECT)
    (project / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    said: list[str] = []
    options = AcceptanceOptions(
        tmp_path / "out", project, models=("stream",), precisions=("fp16",), seconds=0.1, dry_run=True
    )
    report = run_acceptance(options, said.append)
    document, page = (json.loads((tmp_path / "out" / REPORT).read_text()), (tmp_path / "out" / PAGE).read_text())
    assert [step.name for step in report.failed] == ["tests gpu"], said
    assert document["ok"] is False and len(document["steps"]) == len(report.steps) == len(said)
    kinds = [step["asked"]["kind"] for step in document["steps"]]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    assert counts == {"machine": 1, "build": 2, "verify": 2, "inspect": 2, "tests": 2, "rate": 6}
    contract, gpu = report.of_kind("tests")
    assert contract.result["passed"] == 1 and gpu.result["failed"] == 1
    assert "what the GPU gave" in next(iter(gpu.result["messages"].values()))
    for step in report.of_kind("build"):
        assert set(step.result["layers"]) == {"fp16"} and step.result["agreement"][0]["psnr_db"] > 50
    rates = {(step.asked["runner"], step.asked["rigs"]): step.result for step in report.of_kind("rate")}
    assert len(rates) == 6 and all(result["pairs_per_s"] > 0 for result in rates.values())
    assert rates["tensorrt-rtx fp16", 4]["device"] == "Fake GPU"
    assert "1 of 15 steps failed" in page and "tests gpu" in page and "&lt;b&gt;" in page and "<b>&#" not in page
    for text in (
        "test double",
        "tensorrt-rtx-cu13",
        "CUDA of the driver",
        "decoder nvdec",
        "stream tensorrt-rtx fp16 warp",
        "torch graph",
    ):
        assert text in page, text


def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    if gpu_here()[0] is not None:
        pytest.skip("there is a GPU")
    command = [sys.executable, SCRIPT, "--output", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 4 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: no NVIDIA GPU found") and "--dry-run" in done.stderr


def test_a_rig_that_fails_ends_the_measurement(tmp_path: Path) -> None:
    info = FuserInfo("stream", "tensorrt", "fp32", max_in_flight=2)
    multiple = padding_multiple()
    shapes = Shapes((multiple, multiple), (64, 48), (256, 256), batch=1)
    made = [FakeCuda(), FakeCuda(fail="launch", after=6)]
    fusers = [
        TensorRtFuser(info, shapes, multiple, lambda c=cuda: FakePlan(c, read_onnx("stream")), lambda c=cuda: c)
        for cuda in made
    ]
    with fusers[0], fusers[1], pytest.raises(EngineError, match="launch failed, as configured"):
        rate_of(list(fusers), (64, 48), 30.0)


def test_an_engine_that_was_not_built_is_not_measured(tmp_path: Path) -> None:
    step = RateStep("stream", "tensorrt fp16", tmp_path / "none.plan", (96, 64), 1, 0.1, None, dry_run=True)
    with pytest.raises(EngineError, match="no such engine"):
        measure_rate(step)


# -- processes


def test_a_process_over_its_limit_is_killed_with_its_children(tmp_path: Path) -> None:
    marker = tmp_path / "still alive"
    child = f"import time, pathlib; time.sleep(4); pathlib.Path({str(marker)!r}).touch()"
    code = f"import subprocess, sys; print('began', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    end = run_limited([sys.executable, "-c", code], tmp_path / "log", 2.0)
    assert not end.passed and end.reason == "not finished within 2 s, stopped; began"
    time.sleep(4)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; print('loading'); os.abort()", "killed by SIGABRT; "),
        ("raise SystemExit('no kernel for this GPU')", "no kernel for this GPU"),
        ("raise SystemExit(3)", "nothing was printed"),
    ],
)
def test_the_reason_is_what_the_process_printed_last(code: str, reason: str, tmp_path: Path) -> None:
    end = run_limited([sys.executable, "-c", code], tmp_path / "log", 60)
    assert not end.passed and end.reason.startswith(reason)


# -- the page


def test_the_page_is_written_while_steps_are_still_to_come() -> None:
    failed = StepReport("build mfe tensorrt fp16", {"kind": "build", "plan": "x"}, False, 900, 900, "<out of memory>")
    page = acceptance_page(AcceptanceReport("2026-11-30", False, {}, [failed]))
    assert "&lt;out of memory&gt;" in page and "<out of memory>" not in page and "no GPU read yet" in page
    passed = StepReport("machine", {"kind": "machine"}, True, 1, 60)
    assert "All 1 steps passed" in acceptance_page(AcceptanceReport("2026-11-30", True, {}, [passed]))
