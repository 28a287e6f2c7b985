"""Builds that fail and leave no files: wrong precision, wrong images, killed, disk full; concurrent builds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import IMAGES, build_request, compute_layers, file_names, needs_rtx, run

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.engines import store
from fusepipe.engines.builder import agreement
from fusepipe.engines.builder.build import build
from fusepipe.engines.load import read_onnx
from fusepipe.engines.manifest import read_plan

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("engine_cache")


@needs_rtx
def test_an_fp32_graph_is_not_an_fp16_engine(engine_cache: Path) -> None:
    """What tools that only set a flag ship as fp16."""
    count = compute_layers()
    with pytest.raises(EngineError, match=f"asked for fp16, but {count} of {count} compute layers are not .* is fp32"):
        build(build_request("tensorrt-rtx", "fp16", convert=False), IMAGES)
    assert file_names(engine_cache) == []


def test_an_fp32_graph_is_not_an_int8_engine_on_the_cpu(engine_cache: Path) -> None:
    with pytest.raises(EngineError, match="int8"):
        build(build_request("openvino", "int8", convert=False), IMAGES)
    assert file_names(engine_cache) == []


@needs_rtx
def test_images_that_do_not_agree_fail_the_build(engine_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(agreement.TOLERANCES, "fp16", agreement.Tolerance(90.0, 0))
    with pytest.raises(EngineError, match="does not agree") as caught:
        build(build_request("tensorrt-rtx", "fp16"), IMAGES)
    assert caught.value.exit_code == 4 and file_names(engine_cache) == []


def test_an_interrupted_build_leaves_nothing(engine_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)  # in the middle of writing
    with pytest.raises(KeyboardInterrupt):
        build(build_request(), IMAGES)
    assert file_names(engine_cache) == []


# -- existing files at the paths of the engine


def test_files_of_the_user_next_to_an_engine_are_not_replaced(tmp_path: Path) -> None:
    plan = tmp_path / "night.onnx"
    (tmp_path / "night.onnx.json").write_text('{"mine": 1}')
    message = r"night\.onnx\.json, which exists and is not of an engine; choose another output, or --force"
    with pytest.raises(EngineError, match=message):
        build(build_request(), IMAGES, plan)
    assert not plan.exists() and file_names(tmp_path) == ["cache", "night.onnx.json"]
    assert build(build_request(), IMAGES, plan, force=True).plan == plan


def test_the_model_that_an_engine_is_built_from_is_never_replaced(tmp_path: Path) -> None:
    """The graph of ``night`` is ``night.onnx``, and that of ``-o night.onnx`` is the model itself."""
    model = tmp_path / "night.onnx"
    model.write_bytes(read_onnx("stream"))
    for output in ("night", "night.onnx"):
        common = ["build-engine", "--backend", "openvino", "--model", str(model), "-o", str(tmp_path / output)]
        for options in ([], ["--force"]):
            result = run(*common, *options)
            assert isinstance(result.exception, UsageError) and "would replace --model" in str(result.exception)
    assert model.read_bytes() == read_onnx("stream")


@pytest.mark.parametrize("name", ["file/night.onnx", "night", "beside.onnx"])
def test_an_unwritable_output_is_reported_before_computing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    (tmp_path / "night").mkdir()
    (tmp_path / "beside.onnx.json").mkdir()
    monkeypatch.setattr("fusepipe.engines.builder.build.compile_engine", None)
    before = file_names(tmp_path)
    with pytest.raises(EngineError, match=r"cannot be written .* (no|a) folder"):
        build(build_request(), IMAGES, tmp_path / name)
    assert file_names(tmp_path) == before


def test_a_failed_write_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[Path] = []
    original = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if replaced:
            raise OSError(30, "Read-only file system")
        replaced.append(target)
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(EngineError, match="Read-only file system"):
        build(build_request(), IMAGES, tmp_path / "night.onnx")
    assert replaced and file_names(tmp_path) == ["cache"]


def test_a_lock_of_another_user_or_a_link_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder that all users share: nothing is written through what another has put there."""
    (tmp_path / "blocked").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    monkeypatch.setattr(store.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    plan, victim = tmp_path / "x.onnx", tmp_path / "victim"
    with store.build_lock(plan):
        (lock,) = (tmp_path / "tmp").glob("*/*.lock")
    lock.unlink()
    victim.write_text("precious")
    lock.symlink_to(victim)
    with pytest.raises(EngineError, match="no writable folder for lock files"), store.build_lock(plan):
        pass
    assert victim.read_text() == "precious"


_BUILD = """
import resource, sys
import fusepipe.engines.builder.verify
from fusepipe.engines.builder.build import build
from helpers.engine_requests import IMAGES, build_request, without_torch
fusepipe.engines.builder.verify.find_spec = without_torch
{before}
built = build(build_request("openvino", "int8"), IMAGES)
print(built.plan, built.reused, flush=True)
"""


def process(before: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _BUILD.format(before=before)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_build_leaves_no_engine_and_the_next_one_cleans_up(engine_cache: Path) -> None:
    hang = "import os, time\nos.fsync = lambda number: (print('writing', flush=True), time.sleep(60))"
    killed = process(hang)
    try:
        assert killed.stdout is not None and killed.stdout.readline() == "writing\n"
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=20)
    assert file_names(engine_cache) and all(name.endswith(".partial") for name in file_names(engine_cache))
    built = build(build_request("openvino", "int8"), IMAGES)
    assert file_names(engine_cache) == [built.plan.name, f"{built.plan.name}.json"]


def test_a_full_disk_is_one_line_and_leaves_nothing(engine_cache: Path) -> None:
    """The system's own limit on the size of files, as no test may fill a disk."""
    limited = process("resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))")
    _, said = limited.communicate(timeout=110)
    assert limited.returncode == 1
    assert "EngineError" in said and "cannot be written (File too large)" in said
    assert file_names(engine_cache) == []


def test_two_processes_build_one_engine(engine_cache: Path) -> None:
    running = [process(), process()]
    printed = [one.communicate(timeout=110) for one in running]
    assert [one.returncode for one in running] == [0, 0], printed
    plans, reused = zip(*(out.split() for out, _ in printed), strict=True)
    assert plans[0] == plans[1] and sorted(reused) == ["False", "True"]
    assert len(file_names(engine_cache)) == 2
    read_plan(Path(plans[0]))


def test_waiting_for_another_build_times_out(tmp_path: Path) -> None:
    plan = tmp_path / "x.onnx"
    began = time.monotonic()
    with (
        store.build_lock(plan),
        pytest.raises(EngineError, match="another process"),
        store.build_lock(plan, wait_s=0.3),
    ):
        pass
    assert time.monotonic() - began < 5
