"""Loading plans, and TensorRT-RTX's kernels from one run to the next, on fakes of the library's classes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.engine_requests import needs_rtx

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.tensorrt import plan as tensorrt_plan
from fusepipe.engines.backends.tensorrt.library import Library, load_library
from fusepipe.engines.backends.tensorrt.plan import TensorRtPlan
from fusepipe.engines.cache import CompileCache
from fusepipe.engines.manifest import sha256


class Kernels:
    """TensorRT-RTX's runtime cache: bytes that grow when something is compiled."""

    def __init__(self, takes: bool) -> None:
        self.content, self.takes, self.offered = b"", takes, False

    def deserialize(self, content: bytes) -> bool:
        self.offered = True
        self.content = content if self.takes else self.content
        return self.takes

    def serialize(self) -> bytearray:
        return bytearray(self.content)


class Rtx:
    """Engine, configuration and context in one, as far as a plan uses them."""

    def __init__(self, takes: bool = True, refuses: bool = False) -> None:
        self.kernels, self.refuses = Kernels(takes), refuses
        self.config = SimpleNamespace(create_runtime_cache=lambda: self.kernels, set_runtime_cache=self.took)
        self.used: Any = None

    def took(self, kernels: Kernels) -> None:
        self.used = kernels

    def deserialize_cuda_engine(self, plan: bytes) -> Rtx | None:
        return None if self.refuses else self

    def create_runtime_config(self) -> Any:
        return self.config

    def create_execution_context(self, config: Any) -> Any:
        assert config is self.config
        return None if self.used is None else SimpleNamespace(is_stream_capturable=lambda stream: stream == 7)


def open_on(rtx: Rtx, monkeypatch: pytest.MonkeyPatch, cache: CompileCache | None) -> TensorRtPlan:
    strategies = SimpleNamespace(EAGER="eager")
    module = SimpleNamespace(Runtime=lambda logger: rtx, DynamicShapesKernelSpecializationStrategy=strategies)
    library = Library("tensorrt-rtx", module, "1.7", None, [])
    monkeypatch.setattr(tensorrt_plan, "load_library", lambda backend: library)
    return TensorRtPlan("tensorrt-rtx", b"plan", cache)


def run(cache: CompileCache, monkeypatch: pytest.MonkeyPatch, compiles: bytes, takes: bool = True) -> Rtx:
    """A run of a program: loads, compiles kernels if it has none, ends."""
    library = Rtx(takes)
    plan = open_on(library, monkeypatch, cache)
    assert library.used is library.kernels and library.config.dynamic_shapes_kernel_specialization_strategy == "eager"
    context = plan.context()
    assert context.capturable(7) and not context.capturable(8)
    library.kernels.content = library.kernels.content or compiles
    context.close()
    plan.close()
    return library


def test_kernels_are_kept_for_the_next_run_of_the_same_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CompileCache(tmp_path / "kernels")
    assert not run(cache, monkeypatch, b"of this GPU").kernels.offered
    (file,) = (tmp_path / "kernels").iterdir()
    written = file.stat().st_mtime_ns
    assert run(cache, monkeypatch, b"compiled again").kernels.content == b"of this GPU"
    assert file.stat().st_mtime_ns == written, "nothing new, and written all the same"
    assert cache.load(sha256(b"plan")) == b"of this GPU" and cache.load(sha256(b"another plan")) is None


def test_kernels_of_another_gpu_or_damaged_ones_are_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = CompileCache(tmp_path / "kernels")
    run(cache, monkeypatch, b"of another GPU")
    refused = run(cache, monkeypatch, b"of this GPU", takes=False)
    assert refused.kernels.offered and cache.load(sha256(b"plan")) == b"of this GPU"
    (file,) = (tmp_path / "kernels").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    assert not run(cache, monkeypatch, b"compiled again").kernels.offered, "damaged bytes reached the library"
    assert cache.load(sha256(b"plan")) == b"compiled again"


def test_a_folder_that_cannot_be_written_does_not_stop_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    run(CompileCache(tmp_path / "file" / "kernels"), monkeypatch, b"of this GPU")
    assert "cannot" in caplog.text


def test_a_plan_that_the_library_refuses_and_a_context_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"tensorrt-rtx 1\.7 cannot load the plan"):
        open_on(Rtx(refuses=True), monkeypatch, None)
    library = Rtx()
    plan = open_on(library, monkeypatch, None)
    library.used = None
    with pytest.raises(EngineError, match="enough memory"):
        plan.context()
    plan.close()


@needs_rtx
def test_the_calls_are_those_of_the_library() -> None:
    """The calls that :class:`Rtx` fakes exist in the installed library."""
    trt = load_library("tensorrt-rtx").module
    for owner, names in (
        (trt.Runtime, ("deserialize_cuda_engine",)),
        (trt.ICudaEngine, ("create_runtime_config", "create_execution_context")),
        (trt.IRuntimeConfig, ("create_runtime_cache", "set_runtime_cache")),
        (trt.IRuntimeCache, ("serialize", "deserialize")),
        (
            trt.IExecutionContext,
            ("set_input_shape", "set_tensor_address", "execute_async_v3", "is_stream_capturable"),
        ),
    ):
        assert all(callable(getattr(owner, name)) for name in names)
    assert hasattr(trt.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")
    assert hasattr(trt.DynamicShapesKernelSpecializationStrategy, "EAGER")
