"""Building engines for real: TensorRT-RTX without a GPU, OpenVINO on this CPU."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import (
    IMAGES,
    PAIRS,
    RTX_INT8,
    SHAPES,
    build_request,
    compute_layers,
    file_names,
    needs_rtx,
)

from fusepipe.core.errors import EngineError
from fusepipe.core.machine import rtx_runs_on
from fusepipe.engines import choose
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.builder import agreement
from fusepipe.engines.builder.build import build, compile_engine
from fusepipe.engines.load import load_model
from fusepipe.engines.manifest import Shapes, read_plan

pytestmark = pytest.mark.usefixtures("engine_cache")


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", RTX_INT8])
def test_tensorrt_rtx_builds_without_a_gpu_in_the_precision_asked_for(precision: str, engine_cache: Path) -> None:
    built = build(build_request("tensorrt-rtx", precision), IMAGES)
    manifest, content = read_plan(built.plan)
    assert manifest.requested_precision == manifest.achieved_precision == precision
    assert manifest.layers == {precision: compute_layers(batched=True)}  # as the parsed network's layers say
    assert len(content) == manifest.plan_bytes > 100_000
    assert content[:4] == b"ptrt" or not content.startswith(b"{")  # pure: no header of ours in front
    (found,) = manifest.verification.agreements
    assert not manifest.verification.executed and "computed on the CPU" in manifest.verification.subject
    assert found.pairs == 2 and found.psnr_db >= agreement.TOLERANCES[precision].psnr_db
    assert file_names(engine_cache) == sorted(f"{built.plan.name}{end}" for end in ("", ".json", ".onnx"))


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("model", ["densefuse", "fusiongan"])
def test_other_networks_build_as_well(model: str) -> None:
    built = build(build_request("tensorrt-rtx", "fp16", model, shapes=Shapes((16, 16), (32, 32), (64, 64))), IMAGES)
    assert set(built.manifest.layers) == {"fp16"}


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", RTX_INT8])
@pytest.mark.parametrize("model", ["stream", "mfe"])
def test_sizes_and_times(model: str, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Dynamic height, width and batch; every convolution has the precision asked for. Figures go to the terminal."""
    shapes = Shapes((64, 64), (640, 480), (1920, 1088), batch=4)
    began = time.monotonic()
    compiled = compile_engine(build_request("tensorrt-rtx", precision, model, shapes=shapes), PAIRS[:1])
    with capsys.disabled():
        print(  # noqa: T201 - for those who read the log of the tests
            f"\ntensorrt-rtx {compiled.library_version}, {model} {precision}: {len(compiled.plan) / 1024:.0f} KiB, "
            f"{time.monotonic() - began:.1f} s, {len(compiled.layers)} compute layers read back as {precision}"
        )
    assert list(compiled.layers.values()) == [precision] * {"stream": compute_layers(batched=True), "mfe": 38}[model]
    assert compiled.kept_fp32 == () and len(compiled.plan) > 100_000


def test_the_papers_network_is_int8_on_the_cpu_as_well() -> None:
    compiled = compile_engine(build_request("openvino", "int8", "mfe"), PAIRS[:1])
    head = list(compiled.layers)[-1]  # outputs the image
    assert list(compiled.layers.values()) == [*["int8"] * 37, "fp32"] and compiled.kept_fp32 == (head,)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_engines_are_executed_for_verification(precision: str) -> None:
    built = build(build_request("openvino", precision), IMAGES)
    assert built.manifest.verification.executed and built.manifest.layers == {precision: compute_layers()}
    with load_model("stream", engine=str(built.plan)) as fuser, load_model("stream", precision="fp32") as exact:
        assert fuser.info.precision == precision and built.plan.name in fuser.info.reason
        given, expected = fuser.fuse(*PAIRS[3]), exact.fuse(*PAIRS[3])
    found = agreement.measure_agreement("fp32", PAIRS[3:], [expected], [given])
    assert (found.max_abs == 0) == (precision == "fp32") and found.psnr_db > 36


def test_an_engine_of_the_cache_is_found_by_its_names() -> None:
    with pytest.raises(EngineError, match="build-engine --model densefuse --backend openvino --precision int8"):
        load_model("densefuse", "openvino", "int8")
    built = build(build_request("openvino", "int8", "densefuse"), IMAGES)
    with load_model("densefuse", "openvino", "int8") as fuser:
        assert fuser.info.precision == "int8" and built.plan.name in fuser.info.reason


def test_a_second_build_reuses_the_engine_and_force_builds_again() -> None:
    first = build(build_request(), IMAGES)
    again = build(build_request(), IMAGES)
    assert again.reused and again.plan == first.plan and again.manifest.built == first.manifest.built
    assert not build(build_request(), IMAGES, force=True).reused
    assert build(build_request(shapes=replace(SHAPES, batch=1)), IMAGES).plan != first.plan


def test_the_manifest_says_where_its_precision_was_read() -> None:
    assert build(build_request(), IMAGES).manifest.layers_from == "the compiled model"


@needs_rtx
def test_the_precision_of_a_plan_is_that_of_the_parsed_network() -> None:
    """What a GPU executes is not read: the plan cannot be loaded without one."""
    manifest = build(build_request("tensorrt-rtx", "fp16"), IMAGES).manifest
    assert manifest.layers_from == "the parsed network, strongly typed" and not manifest.verification.executed


def test_pytorch_is_compared_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setattr("fusepipe.engines.builder.verify.find_spec", importlib.util.find_spec)
    agreements = build(build_request(), IMAGES).manifest.verification.agreements
    assert [a.reference for a in agreements] == ["the fp32 ONNX", "PyTorch"]
    assert agreements[1].max_abs <= 1


def test_auto_explains_its_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu("RTX 4090", "SM89", "13.0", "13.0")
    assert choose.gpu_backend(None, "no driver").name == "openvino"
    assert choose.gpu_backend(None, "no driver").reason == "auto: no driver"
    monkeypatch.setattr(choose, "installed_version", lambda name: "13.1" if name == "cuda-bindings" else None)
    for there, wanted in ((["tensorrt"], "tensorrt"), (["tensorrt-rtx"], "tensorrt-rtx"), ([], "openvino")):
        monkeypatch.setattr(choose, "package_installed", lambda name, there=there: name in there)
        choice = choose.gpu_backend(gpu, "")
        assert choice.name == wanted and "RTX 4090" in choice.reason


def test_auto_passes_tensorrt_rtx_over_where_it_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    hopper = Gpu("H200", "SM90", "13.0", "13.0")
    monkeypatch.setattr(choose, "installed_version", lambda name: "13.1" if name == "cuda-bindings" else None)
    for there, wanted in ((["tensorrt", "tensorrt-rtx"], "tensorrt"), (["tensorrt-rtx"], "openvino")):
        monkeypatch.setattr(choose, "package_installed", lambda name, there=there: name in there)
        assert choose.gpu_backend(hopper, "").name == wanted
    assert "does not run on H200 (SM90): pip install" in choose.gpu_backend(hopper, "").reason
    runs = {
        sm: rtx_runs_on(sm)
        for sm in ("SM70", "SM75", "SM80", "SM86", "SM87", "SM89", "SM90", "SM100", "SM103", "SM120", "SM121")
    }
    assert [sm for sm, does in runs.items() if does] == ["SM75", "SM80", "SM86", "SM89", "SM120", "SM121"]
