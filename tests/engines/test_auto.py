"""``auto`` on a machine with a GPU, on the doubles: the engine of the cache, or the CPU with the reason."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import IMAGES, PAIRS, build_request, needs_rtx, run, write_images

import fusepipe
from fusepipe.core.errors import EngineError, UsageError
from fusepipe.engines import choose, load
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt import runtime
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.builder import verify as verification
from fusepipe.engines.builder.build import build
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.engines.manifest import manifest_path
from fusepipe.engines.sharing import SharedEngines
from fusepipe.workflows import verify_engine as workflow

pytestmark = [pytest.mark.usefixtures("engine_cache"), needs_rtx]

GPUS = (Gpu("Fake GPU", "SM89", "13.0", "13.0", 0, "GPU-aa"), Gpu("Fake GPU 2", "SM86", "13.0", "13.0", 1, "GPU-bb"))


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine with two GPUs; the indices that CUDA is opened with."""
    opened: list[int] = []

    def here(device: str | None = None) -> tuple[Gpu | None, str]:
        return GPUS[int(device or 0)], ""

    monkeypatch.setattr(choose, "gpu_here", here)
    monkeypatch.setattr(choose, "misfit_of_packages", lambda backend, gpu: "")
    monkeypatch.setattr(choose, "package_installed", lambda backend: backend == "tensorrt-rtx")
    build(build_request("tensorrt-rtx", "fp16"), IMAGES)
    return opened


def plans(monkeypatch: pytest.MonkeyPatch, devices: list[int], cuda: Callable[[], FakeCuda]) -> list[FakeCuda]:
    """Plans run on fake CUDA made by ``cuda``; those that were made."""
    made: list[FakeCuda] = []

    def opened(device: int) -> FakeCuda:
        devices.append(device)
        made.append(cuda())
        return made[-1]

    def loaded(*arguments: Any, **options: Any) -> FakePlan:
        return FakePlan(made[-1], read_onnx("stream"))

    monkeypatch.setattr(load, "open_cuda", opened)
    monkeypatch.setattr(verification, "open_cuda", opened)
    monkeypatch.setattr(runtime, "TensorRtPlan", loaded)
    return made


def test_auto_runs_the_engine_of_the_cache_on_the_device(devices: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    plans(monkeypatch, devices, FakeCuda)
    with load_model("stream") as fuser, load_model("stream", device="1") as other:
        assert fuser.info.backend == "tensorrt-rtx" and "Fake GPU with tensorrt_rtx" in fuser.info.reason
        assert "Fake GPU 2" in other.info.reason and devices == [0, 1]
        assert fuser.fuse(*PAIRS[0]).shape == PAIRS[0][0].shape
    with pytest.raises(UsageError, match="openvino runs on the CPU"):
        load_model("stream", "openvino", device="1")
    with pytest.raises(UsageError, match="is a rule that runs on the CPU"):
        fusepipe.load_fuser("mean", device="1")


@pytest.mark.parametrize("fails", ["allocate", "pinned"])
def test_auto_takes_the_cpu_if_the_gpu_has_no_memory(
    fails: str, devices: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = plans(monkeypatch, devices, lambda: FakeCuda(fail=fails))
    with caplog.at_level(logging.WARNING), load_model("stream") as fuser:
        assert fuser.info.backend == "openvino" and f"{fails} failed" in fuser.info.reason
        assert "does not run on Fake GPU" in fuser.info.reason and "using the CPU instead" in caplog.text
    assert all(cuda.closed for cuda in made) and made
    with pytest.raises(EngineError, match=f"{fails} failed"):
        load_model("stream", "tensorrt-rtx").prepare(64, 96)


SMALLEST_FITS = 100_000
"""Bytes of GPU memory: room for the smallest size of the plan in both lanes, not for the pairs of the tests."""


def test_auto_takes_the_cpu_if_a_rigs_size_does_not_fit(
    devices: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = plans(monkeypatch, devices, lambda: FakeCuda(memory_bytes=SMALLEST_FITS))
    height, width = PAIRS[0][1].shape
    with load_model("stream", "openvino", "fp32") as reference:
        expected = reference.fuse(*PAIRS[0])
    with caplog.at_level(logging.WARNING), load_model("stream", precision="fp16") as fuser:
        assert fuser.info.backend == "tensorrt-rtx"
        with pytest.raises(EngineError, match="out of memory") as caught:  # the CPU has no fp16
            fuser.prepare(height, width)
        assert "and on the CPU" in caught.value.__notes__[0]
    for use in ("prepare", "fuse"):
        with load_model("stream") as fuser:
            assert fuser.info.backend == "tensorrt-rtx"
            if use == "prepare":
                fuser.prepare(height, width)
                assert made[-1].closed and fuser.info.backend == "openvino"
            assert int(abs(fuser.fuse(*PAIRS[0]).astype(int) - expected).max()) <= 24  # may be int8 on this CPU
            assert f"Fake GPU cannot fuse {width}x{height} (CUDA: out of memory" in fuser.info.reason
            fuser.prepare(2 * height, 2 * width)
    assert f"Fake GPU cannot fuse {width}x{height}, using the CPU instead" in caplog.text
    with load_model("stream", "tensorrt-rtx") as asked, pytest.raises(EngineError, match="out of memory"):
        asked.prepare(height, width)
    assert all(cuda.closed for cuda in made)


def test_rigs_that_share_an_engine_change_to_the_cpu_together(
    devices: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plans(monkeypatch, devices, lambda: FakeCuda(memory_bytes=SMALLEST_FITS))
    table = SharedEngines()
    with (
        table.lease("x", lambda: load_model("stream")) as one,
        table.lease("x", lambda: load_model("stream")) as other,
    ):
        for rig in (one, other):
            rig.prepare(*PAIRS[0][1].shape)
            assert rig.info.backend == "openvino" and "out of memory" in rig.info.reason
            assert rig.fuse(*PAIRS[0]).shape == PAIRS[0][1].shape
        assert len(made) == 1
    assert made[0].closed


def test_auto_takes_the_cpu_if_the_plan_is_refused(devices: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    made = plans(monkeypatch, devices, FakeCuda)

    def refused(*arguments: Any, **options: Any) -> FakePlan:
        raise EngineError("tensorrt-rtx 1.7 cannot load the plan: built for another driver")

    monkeypatch.setattr(runtime, "TensorRtPlan", refused)
    with load_model("stream") as fuser:
        assert fuser.info.backend == "openvino" and "built for another driver" in fuser.info.reason
    assert made[0].closed
    with pytest.raises(EngineError, match="another driver"):
        load_model("stream", "tensorrt-rtx")


def test_an_engine_is_refused_with_what_its_packages_need(devices: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "misfit_of_packages", lambda backend, gpu: "CUDA 12.4: pip install X")
    with load_model("stream") as fuser:
        assert fuser.info.backend == "openvino" and "CUDA 12.4: pip install X" in fuser.info.reason
    with pytest.raises(EngineError, match=r"fits this machine: CUDA 12\.4: pip install X; fusepipe build-engine"):
        load_model("stream", "tensorrt-rtx")


# -- verify-engine


def test_verify_engine_runs_the_plan_on_the_gpu(
    tmp_path: Path, devices: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build(build_request("tensorrt-rtx", "fp16"), IMAGES, tmp_path / "x.plan").plan
    monkeypatch.setattr(workflow, "gpu_here", choose.gpu_here)
    plans(monkeypatch, devices, FakeCuda)
    result = run("verify-engine", str(plan), *write_images(tmp_path), "--device", "1")
    assert result.exit_code == 0, result.exception
    assert "run on Fake GPU 2" in result.output and "It fits this machine and agrees." in result.output
    assert devices == [1]


def test_verify_engine_without_a_gpu_says_that_the_plan_was_not_executed(tmp_path: Path) -> None:
    if choose.gpu_here()[0] is not None:
        pytest.skip("there is a GPU")
    plan = build(build_request("tensorrt-rtx", "fp16"), IMAGES, tmp_path / "x.plan").plan
    result = run("verify-engine", str(plan), *write_images(tmp_path))
    assert result.exit_code == 0 and "not executed here: no NVIDIA GPU found" in result.output
    assert "fits this machine" not in result.output


def test_verify_engine_allows_the_code_of_a_version_compatible_plan(
    tmp_path: Path, devices: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a plan contains a runtime; TensorRT refuses to load it unless host code is allowed."""
    plan = build(build_request("tensorrt-rtx", "fp16"), IMAGES, tmp_path / "x.plan").plan
    text = manifest_path(plan).read_text().replace('"options": {', '"options": {"version_compatible": true, ')
    manifest_path(plan).write_text(text)
    monkeypatch.setattr(workflow, "gpu_here", choose.gpu_here)
    made = plans(monkeypatch, devices, FakeCuda)

    def loaded(*arguments: Any, host_code: bool, **options: Any) -> FakePlan:
        if not host_code:
            raise EngineError("the plan contains host code, which is not allowed")
        return FakePlan(made[-1], read_onnx("stream"))

    monkeypatch.setattr(runtime, "TensorRtPlan", loaded)
    result = run("verify-engine", str(plan), *write_images(tmp_path))
    assert result.exit_code == 0, result.exception
