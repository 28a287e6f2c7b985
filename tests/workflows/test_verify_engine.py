"""``fusepipe verify-engine`` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import IMAGES, build_request, compute_layers, needs_rtx, run, write_images

from fusepipe.core.errors import EngineError
from fusepipe.engines.builder.build import build
from fusepipe.engines.manifest import manifest_path

pytestmark = pytest.mark.usefixtures("engine_cache")


def test_verifying_reads_the_precision_back(tmp_path: Path) -> None:
    """A manifest that claims another precision throughout, for a graph that agrees well enough."""
    images = write_images(tmp_path)
    engine = build(build_request("openvino", "int8"), IMAGES, tmp_path / "night.onnx").plan
    assert run("verify-engine", str(engine), *images).exit_code == 0
    exact = build(build_request("openvino", "fp32"), IMAGES, tmp_path / "exact.onnx").plan
    manifest_path(exact).write_text(manifest_path(exact).read_text().replace('"fp32"', '"int8"'))
    result = run("verify-engine", str(exact), *images)
    assert isinstance(result.exception, EngineError) and "int8" in str(result.exception)


@needs_rtx
def test_verifying_reads_the_precision_of_a_plan_back(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    plan = build(build_request("tensorrt-rtx", "fp16"), IMAGES, tmp_path / "x.plan").plan
    manifest_path(plan).write_text(manifest_path(plan).read_text().replace('"fp16"', '"int8"'))
    result = run("verify-engine", str(plan), *images)
    count = compute_layers(batched=True)
    assert f"asked for int8, but {count} of {count} compute layers are not" in str(result.exception)
