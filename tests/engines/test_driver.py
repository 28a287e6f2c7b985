"""NVIDIA's driver is asked once, without packages, contexts or ``nvidia-smi``; the reasons name both CUDA versions."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.fake_libcuda import H200, RTX_2080, RTX_4090, FakeLibcuda

from fusepipe.core.errors import EngineError
from fusepipe.engines import choose
from fusepipe.engines.backends.cuda.driver import ask_driver, select_gpu
from fusepipe.engines.backends.cuda.packages import too_new_for_driver


def test_a_driver_reports_its_cuda_version_and_gpus() -> None:
    report = ask_driver(lambda: FakeLibcuda(12040, (RTX_4090, RTX_2080)))
    assert report.cuda == 12040 and report.problem == ""
    first, second = report.gpus
    assert (first.name, first.sm, first.driver_cuda, first.index) == ("NVIDIA GeForce RTX 4090", "SM89", "12.4", 0)
    assert first.uuid == "GPU-5a3f10c2-0000-4000-8000-000000000001" and (second.sm, second.index) == ("SM75", 1)


def absent() -> Any:
    raise OSError("libcuda.so.1: cannot open shared object file")


@pytest.mark.parametrize(
    ("load", "cuda", "problem"),
    [
        (absent, 0, "driver is not installed"),
        (lambda: FakeLibcuda(13000, (), {"cuInit": 100}), 13000, "no CUDA-capable device is detected \\(100\\)"),
        (lambda: FakeLibcuda(0, (), {"cuDriverGetVersion": 34}), 0, "the driver is a stub"),
        (lambda: FakeLibcuda(13000, ()), 13000, "the driver lists none"),
        (lambda: FakeLibcuda(13000, (H200,), {"cuDeviceGetName": 999}), 13000, "cuDeviceGetName of NVIDIA's driver"),
    ],
)
def test_a_driver_that_is_absent_or_fails_is_a_reason(load: Any, cuda: int, problem: str) -> None:
    report = ask_driver(load)
    assert report.cuda == cuda and not report.gpus and re.search(problem, report.problem)


def test_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """``nvidia-smi`` is absent from many containers and takes up to seconds."""
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **options: pytest.fail("a process was started"))
    assert ask_driver(lambda: FakeLibcuda(13000, (RTX_4090,))).gpus


def test_a_gpu_is_selected_by_index_or_uuid() -> None:
    gpus = ask_driver(lambda: FakeLibcuda(13000, (RTX_4090, RTX_2080, H200))).gpus
    assert select_gpu(gpus, "1").sm == "SM75" and select_gpu(gpus, gpus[2].uuid) is gpus[2]
    assert select_gpu(gpus, "GPU-77AA") is gpus[2] and select_gpu(gpus, "77aa0000") is gpus[2]
    for wrong, message in (("3", "no GPU with"), ("GPU-5a3f", "2 GPUs with"), ("GPU-ffff", r"0 \(NVIDIA GeForce")):
        with pytest.raises(EngineError, match=message):
            select_gpu(gpus, wrong)


def test_handles_of_cuda_bindings_are_read_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """``int(cuda_obj)`` is deprecated; numbers of streams and events come from ``get_cuda_native_handle``."""
    bindings = pytest.importorskip("fusepipe.engines.backends.cuda.bindings", reason="cuda-bindings is not installed")
    runtime, good = bindings.runtime, bindings.runtime.cudaError_t.cudaSuccess
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (good, 2))
    monkeypatch.setattr(runtime, "cudaStreamCreateWithFlags", lambda flags: (good, runtime.cudaStream_t(5)))
    monkeypatch.setattr(runtime, "cudaEventCreateWithFlags", lambda flags: (good, runtime.cudaEvent_t(7)))
    asked: list[Any] = []
    monkeypatch.setattr(bindings, "get_cuda_native_handle", lambda value: (asked.append(type(value)), 40)[1])
    cuda = bindings.BindingsCuda(1)
    assert (cuda.stream(), cuda.event()) == (40, 40) and asked == [runtime.cudaStream_t, runtime.cudaEvent_t]
    with pytest.raises(EngineError, match="2 GPUs, none with the index 2"):
        bindings.BindingsCuda(2)


# -- packages for a CUDA that the driver does not have


def packages_of(**installed: str) -> Any:
    return lambda name: installed.get(name.replace("-", "_"))


def test_packages_for_a_later_cuda_than_the_drivers_are_named_with_both_versions_and_the_command() -> None:
    there = packages_of(tensorrt_rtx_cu13="1.7.1.116", cuda_bindings="13.5.0")
    why = too_new_for_driver("tensorrt-rtx", 12040, there)
    assert "supports CUDA 12.4, and tensorrt-rtx-cu13 1.7.1.116 and cuda-bindings 13.5.0 need CUDA 13" in why
    assert "update the driver to 580 or later, or pip uninstall -y tensorrt-rtx-cu13 tensorrt-rtx-cu13-bindings" in why
    assert why.endswith("&& pip install 'fusepipe[tensorrt-rtx-cu12,cuda12]'")
    only_layer = too_new_for_driver("tensorrt", 12090, packages_of(tensorrt_cu12="10.9", cuda_bindings="13.5.0"))
    assert "12.9, and cuda-bindings 13.5.0 needs CUDA 13" in only_layer and "uninstall" not in only_layer
    meta = too_new_for_driver("tensorrt", 12090, packages_of(tensorrt="11.4"))
    assert "pip uninstall -y tensorrt tensorrt-cu13 tensorrt-cu13-bindings tensorrt-cu13-libs &&" in meta
    old = too_new_for_driver("tensorrt", 11080, packages_of(tensorrt_cu12="10.9"))
    assert old.endswith("tensorrt-cu12 10.9 needs CUDA 12: update the driver to 525 or later")


@pytest.mark.parametrize(
    ("driver", "installed"),
    [
        (13000, {"tensorrt_rtx_cu13": "1.7.1", "cuda_bindings": "13.5.0"}),
        (13010, {"tensorrt_rtx_cu12": "1.7.1", "cuda_bindings": "12.9.4"}),
        (12020, {"tensorrt_rtx_cu12": "1.7.1", "cuda_bindings": "12.9.4"}),
        (12020, {}),  # TensorRT of Jetson's system packages
    ],
)
def test_packages_that_the_driver_runs_are_not_refused(driver: int, installed: dict[str, str]) -> None:
    assert too_new_for_driver("tensorrt-rtx", driver, packages_of(**installed)) == ""


def on_this_machine(monkeypatch: pytest.MonkeyPatch, driver: FakeLibcuda, **installed: str) -> list[str]:
    """``auto`` with a driver and packages; the names of the calls to the driver."""
    choose.driver.cache_clear()
    monkeypatch.setattr(choose, "ask_driver", lambda: ask_driver(lambda: driver))
    there = packages_of(**installed)
    monkeypatch.setattr(choose, "installed_version", there)
    monkeypatch.setattr(choose, "too_new_for_driver", lambda *arguments: too_new_for_driver(*arguments, there))
    monkeypatch.setattr(choose, "package_installed", lambda name: name == "tensorrt-rtx")
    return driver.calls


@pytest.fixture(autouse=True)
def _real_driver_afterwards() -> Iterator[None]:
    yield
    choose.driver.cache_clear()


def test_auto_says_why_it_takes_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    on_this_machine(monkeypatch, FakeLibcuda(12040, [RTX_4090]), tensorrt_rtx_cu13="1.7.1", cuda_bindings="13.5.0")
    choice = choose.gpu_backend(*choose.gpu_here())
    assert choice.name == "openvino" and "CUDA 12.4" in choice.reason and "cuda12]'" in choice.reason
    on_this_machine(monkeypatch, FakeLibcuda(13000, [RTX_4090]), tensorrt_rtx_cu13="1.7.1", cuda_bindings="13.5.0")
    assert choose.gpu_backend(*choose.gpu_here()).name == "tensorrt-rtx"
    on_this_machine(monkeypatch, FakeLibcuda(13000, [RTX_4090]), tensorrt_rtx_cu13="1.7.1")
    monkeypatch.setattr(choose, "find_spec", lambda name: None)
    assert "neither cuda-bindings nor pycuda" in choose.gpu_backend(*choose.gpu_here()).reason
    on_this_machine(monkeypatch, FakeLibcuda(13000, (), {"cuInit": 100}))
    assert "no CUDA-capable device" in choose.gpu_backend(*choose.gpu_here()).reason


def test_the_driver_is_queried_once_for_any_number_of_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = on_this_machine(monkeypatch, FakeLibcuda(13000, [RTX_4090, H200]), cuda_bindings="13.5.0")
    for _ in range(5):
        assert choose.gpu_here()[0] is not None and choose.gpu_here("1")[0] is not None
    assert calls.count("cuInit") == 1
    second, _ = choose.gpu_here("GPU-77aa")
    assert second is not None and (second.index, second.sm, second.runtime_cuda) == (1, "SM90", "13.5.0")
    with pytest.raises(EngineError, match="no GPU with the index or UUID '2'"):
        choose.gpu_here("2")
