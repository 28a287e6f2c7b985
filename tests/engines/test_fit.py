"""Engines that must not run: damaged, foreign, of other weights, versions or GPUs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import IMAGES, build_request, flip_byte, needs_rtx, run

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.engines import choose
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.builder.build import build
from fusepipe.engines.fit import misfit
from fusepipe.engines.load import load_model
from fusepipe.engines.manifest import Manifest, manifest_path, read_manifest

pytestmark = pytest.mark.usefixtures("engine_cache")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return build(build_request("openvino", "int8"), IMAGES, tmp_path / "night.onnx").plan


def cut(plan: Path) -> None:
    plan.write_bytes(plan.read_bytes()[:-100])


def lose_manifest(plan: Path) -> None:
    manifest_path(plan).unlink()


def lose_plan(plan: Path) -> None:
    plan.unlink()


def foreign_manifest(plan: Path) -> None:
    manifest_path(plan).write_text('{"name": "yolo", "format": "engine"}')


def broken_manifest(plan: Path) -> None:
    manifest_path(plan).write_text('{"format": 1, "mod')


def poor_manifest(plan: Path) -> None:
    data = json.loads(manifest_path(plan).read_text())
    del data["shapes"]
    manifest_path(plan).write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"\d+ of \d+ bytes.*fusepipe build-engine X"),
        (flip_byte, "its bytes have changed"),
        (lose_manifest, "has no manifest"),
        (lose_plan, "cannot be read"),
        (foreign_manifest, "has format engine"),
        (broken_manifest, "cannot be used"),
        (poor_manifest, "cannot be used .*shapes"),
    ],
)
def test_damaged_and_foreign_files_are_refused(engine: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(engine)
    with pytest.raises(EngineError, match=message) as caught:
        load_model("stream", engine=str(engine))
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backend", "torch", "backend is 'torch': not one of openvino"),
        ("multiple", 0, "multiple is 0: Input should be greater than or equal to 1"),
        ("multiple", True, "multiple is True: Input should be a valid integer"),
        ("options", [], r"options is \[\]: Input should be an object"),
        ("shapes", {"min": [0, 0], "opt": [64, 64], "max": [64, 64], "batch": 1}, r"shapes\.min\.0 is 0"),
        ("shapes", 7, "shapes is 7"),
        ("targets", [5], r"targets\.0 is 5: Input should be a valid string"),
        ("onnx_sha256", 5, "onnx_sha256 is 5: Input should be a valid string"),
        ("achieved_precision", "fp32", "requested int8 but achieved fp32"),
        ("layers", None, "layers is None"),
    ],
)
def test_a_manifest_that_was_edited_is_refused_in_one_line(engine: Path, key: str, value: object, message: str) -> None:
    data = json.loads(manifest_path(engine).read_text())
    manifest_path(engine).write_text(json.dumps(data | {key: value}))
    with pytest.raises(EngineError, match=message) as caught:
        load_model("stream", engine=str(engine))
    assert "\n" not in str(caught.value)
    listed = run("list-engines", str(engine.parent))
    assert listed.exit_code == 0 and "damaged" in listed.output
    assert isinstance(run("verify-engine", str(engine)).exception, EngineError)


def test_an_engine_of_other_weights_is_refused(engine: Path) -> None:
    text = manifest_path(engine).read_text().replace(read_manifest(engine).onnx_sha256, "0" * 64)
    manifest_path(engine).write_text(text)
    with pytest.raises(EngineError, match=r"other weights .*build it again: fusepipe build-engine X"):
        load_model("stream", engine=str(engine))


def test_names_that_contradict_the_engine_are_refused(engine: Path) -> None:
    with pytest.raises(UsageError, match="give --model stream"):
        load_model("densefuse", engine=str(engine))
    with pytest.raises(UsageError, match="give --precision int8"):
        load_model("stream", precision="fp32", engine=str(engine))
    with pytest.raises(EngineError, match="no such engine"):
        load_model("stream", engine="nowhere.plan")


@needs_rtx
def test_a_plan_of_another_version_names_both_and_the_command(tmp_path: Path) -> None:
    plan = build(build_request("tensorrt-rtx", "fp16"), IMAGES, tmp_path / "x.plan").plan
    here = read_manifest(plan).library_version
    manifest_path(plan).write_text(manifest_path(plan).read_text().replace(here, "1.0.0.1"))
    with pytest.raises(
        EngineError, match=rf"tensorrt_rtx 1\.0\.0\.1; this machine has {here}.*fusepipe build-engine X"
    ):
        load_model("stream", engine=str(plan))


@needs_rtx
def test_without_a_gpu_a_plan_says_what_is_missing(tmp_path: Path) -> None:
    if choose.gpu_here()[0] is not None:
        pytest.skip("there is a GPU")
    plan = build(build_request("tensorrt-rtx", "fp16"), IMAGES, tmp_path / "x.plan").plan
    with pytest.raises(EngineError, match="no GPU can be used"):
        load_model("stream", engine=str(plan))


def test_a_plan_fits_its_gpu_only() -> None:
    manifest = read_manifest(build(build_request(), IMAGES).plan)
    changes = {"backend": "tensorrt-rtx", "library": "tensorrt_rtx", "library_version": "1.7", "targets": ("SM89",)}
    plan = manifest.model_copy(update=changes)

    def why(engine: Manifest, sm: str, name: str = "L4", version: str = "1.7") -> str:
        return misfit(engine, library_version=version, onnx_sha256=None, gpu=Gpu(name, sm, "13.0", "13.0"))

    assert why(plan, "SM89") == ""
    assert why(plan, "SM120") == "it was built for SM89, this GPU is SM120"
    plain = plan.model_copy(update={"backend": "tensorrt", "targets": (), "device": "RTX 4090"})
    anywhere = plan.model_copy(update={"targets": ()})
    for sm in ("SM90", "SM87"):
        assert why(anywhere, sm).startswith(f"TensorRT-RTX does not run on GPUs of architecture {sm}")
    assert "RTX 4090, this is L4" in why(plain, "SM89")
    # Turing has to be named as a target: default plans are for SM80 and later, and have no bf16 there
    assert "for GPUs of architecture SM80 and later" in why(anywhere, "SM75") and why(anywhere, "SM80") == ""
    turing = plan.model_copy(update={"targets": ("SM75",)})
    assert why(turing, "SM75") == ""
    bf16 = turing.model_copy(update={"achieved_precision": "bf16", "requested_precision": "bf16"})
    assert "do not compute in bf16" in why(bf16, "SM75")
    # version-compatible plans run with later versions, not with earlier ones
    lasting = plain.model_copy(update={"options": {"version_compatible": True}, "library_version": "10.9"})
    assert why(lasting, "SM89", "RTX 4090", "11.1") == "" and why(lasting, "SM89", "RTX 4090", "10.9") == ""
    assert "10.9; this machine has 10.8; it runs with later" in why(lasting, "SM89", "RTX 4090", "10.8")
