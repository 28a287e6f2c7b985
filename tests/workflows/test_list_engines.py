"""``fusepipe list-engines`` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import IMAGES, build_request, flip_byte, needs_rtx, run

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.engines import choose
from fusepipe.engines.builder.build import build

pytestmark = pytest.mark.usefixtures("engine_cache")


def test_other_json_files_are_not_listed_and_changed_bytes_are_seen(tmp_path: Path) -> None:
    engine = build(build_request("openvino", "int8"), IMAGES, tmp_path / "night.onnx").plan
    (engine.parent / "package.json").write_text('{"name": "mine"}')
    listed = run("list-engines", str(engine.parent))
    assert "1 engine\n" in listed.output and "fits" in listed.output and "package" not in listed.output
    flip_byte(engine)
    assert "its bytes have changed" in run("list-engines", str(engine.parent)).output


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    result = run("list-engines", str(tmp_path / "absent"))
    assert isinstance(result.exception, UsageError) and "no such folder" in str(result.exception)


def test_an_engine_whose_library_is_not_installed_is_listed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(backend: str) -> tuple[str, str]:
        raise EngineError(f"the backend {backend} needs a package")

    build(build_request("openvino", "fp32"), IMAGES, tmp_path / "night.onnx")
    monkeypatch.setattr("fusepipe.engines.fit.library_version", missing)
    listed = run("list-engines", str(tmp_path))
    assert listed.exit_code == 0 and "does not fit: the backend openvino needs a package" in listed.output


@needs_rtx
def test_a_plan_that_no_gpu_here_can_run_does_not_fit(tmp_path: Path) -> None:
    if choose.gpu_here()[0] is not None:
        pytest.skip("there is a GPU")
    build(build_request("tensorrt-rtx", "fp16"), IMAGES, tmp_path / "x.plan")
    listed = run("list-engines", str(tmp_path))
    assert "does not run here: no NVIDIA GPU found" in listed.output and "fits" not in listed.output
    (row,) = json.loads(run("list-engines", str(tmp_path), "--json").output)["engines"]
    assert row["fits"] is False and row["no_gpu"].startswith("no NVIDIA GPU found") and row["problem"] == ""
