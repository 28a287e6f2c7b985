"""Loading plans, their contexts and TensorRT-RTX's kernels, on a fake of the library's classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.engine_requests import needs_rtx
from helpers.fake_tensorrt import BYTES_PER_PIXEL, FakeTensorRt

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import OutOfGpuMemoryError
from fusepipe.engines.backends.tensorrt import plan as tensorrt_plan
from fusepipe.engines.backends.tensorrt.library import load_library
from fusepipe.engines.backends.tensorrt.plan import PlanContext, TensorRtPlan
from fusepipe.engines.cache import CompileCache
from fusepipe.engines.manifest import sha256

STREAM = 7
SHAPE = (1, 1, 48, 64)


def open_on(fake: FakeTensorRt, monkeypatch: pytest.MonkeyPatch, cache: CompileCache | None = None) -> TensorRtPlan:
    monkeypatch.setattr(tensorrt_plan, "load_library", lambda backend: fake.library)
    return TensorRtPlan(fake.library.backend, b"plan", cache)


def shaped(plan: TensorRtPlan, *, eager: bool = True) -> PlanContext:
    context = plan.context(STREAM, eager=eager)
    context.set_input("infrared", SHAPE, 1)
    context.set_output("fused", 2)
    return context


def execute(context: PlanContext) -> None:
    context.set_scratch(3, context.scratch_bytes())
    context.execute(STREAM)


# -- memory


@pytest.mark.parametrize("runtime_config", [True, False])
@pytest.mark.parametrize("rtx", [True, False])
def test_contexts_take_memory_for_the_shapes_in_use(
    rtx: bool, runtime_config: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU with no room for a context of the largest shapes. TensorRT has runtime configurations from 10.9."""
    fake = FakeTensorRt(rtx=rtx, runtime_config=runtime_config, memory_bytes=1)
    plan = open_on(fake, monkeypatch)
    for _ in range(2):  # the second needs its profile set as well
        context = shaped(plan)
        assert context.scratch_bytes() == BYTES_PER_PIXEL * 48 * 64
        execute(context)
    assert [made.allocation for made in fake.contexts] == ["user-managed"] * 2
    plan.close()


def test_a_context_with_too_little_memory_is_an_error_with_the_librarys_words(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = open_on(FakeTensorRt(), monkeypatch)
    context = shaped(plan)
    with pytest.raises(EngineError, match=r"could not start the computation: .*too small"):
        context.execute(STREAM)
    with pytest.raises(EngineError, match="does not accept infrared of shape"):
        context.set_input("infrared", (9, 1, 9999, 9999), 1)
    plan.close()


def test_no_memory_for_shapes_is_an_answer_and_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library answers 0 to both; only an error is logged."""
    plan = open_on(FakeTensorRt(bytes_per_pixel=0), monkeypatch)
    context = shaped(plan)
    assert context.scratch_bytes() == 0
    context.set_scratch(0, 0)
    context.execute(STREAM)
    with pytest.raises(EngineError, match=r"cannot plan its memory: .*not specified"):
        plan.context(STREAM, eager=True).scratch_bytes()
    plan.close()


def test_libraries_without_user_managed_memory_allocate_it_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorRt(rtx=False, user_managed=False, runtime_config=False)
    plan = open_on(fake, monkeypatch)
    context = shaped(plan)
    assert context.scratch_bytes() == 0
    execute(context)
    plan.close()
    plan = open_on(FakeTensorRt(rtx=False, user_managed=False, memory_bytes=1), monkeypatch)
    with pytest.raises(OutOfGpuMemoryError, match=r"lack of GPU memory: .*out of memory"):
        plan.context(STREAM, eager=True)
    plan.close()


# -- kernels and graphs of TensorRT-RTX


def test_rtx_captures_graphs_itself_and_compiles_in_the_background_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorRt()
    plan = open_on(fake, monkeypatch)
    contexts = [shaped(plan, eager=eager) for eager in (True, False, True)]
    assert [made.strategy for made in fake.contexts] == ["eager", "lazy", "eager"]
    assert [made.graphs for made in fake.contexts] == ["whole graph"] * 3
    assert not any(context.capturable(STREAM) for context in contexts)
    plan.close()


def test_an_rtx_without_graphs_of_its_own_is_not_captured_either(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorRt()
    del fake.module.CudaGraphStrategy  # before 1.2
    plan = open_on(fake, monkeypatch)
    assert not shaped(plan).capturable(STREAM)
    assert fake.contexts[0].graphs == "disabled"
    plan.close()


def test_contexts_of_tensorrt_may_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = open_on(FakeTensorRt(rtx=False), monkeypatch)
    assert shaped(plan).capturable(STREAM)
    plan.save_kernels()  # it compiles none
    plan.close()


def run(cache: CompileCache, monkeypatch: pytest.MonkeyPatch, compiles: bytes, *, accepts: bool = True) -> FakeTensorRt:
    """A run of a program: loads, compiles kernels if it has none, ends."""
    fake = FakeTensorRt(accepts=accepts)
    plan = open_on(fake, monkeypatch, cache)
    context = plan.context(STREAM, eager=True)
    fake.kernels.content = fake.kernels.content or compiles
    context.close()
    plan.close()
    return fake


def test_kernels_are_kept_for_the_next_run_of_the_same_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CompileCache(tmp_path / "kernels")
    assert not run(cache, monkeypatch, b"of this GPU").kernels.offered
    (file,) = (tmp_path / "kernels").iterdir()
    written = file.stat().st_mtime_ns
    assert run(cache, monkeypatch, b"compiled again").kernels.content == b"of this GPU"
    assert file.stat().st_mtime_ns == written, "nothing new, and written all the same"
    assert cache.load(sha256(b"plan")) == b"of this GPU" and cache.load(sha256(b"another plan")) is None


def test_kernels_are_saved_while_the_plan_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is killed has them at its next start."""
    cache = CompileCache(tmp_path / "kernels")
    fake = FakeTensorRt()
    plan = open_on(fake, monkeypatch, cache)
    execute(shaped(plan))
    plan.save_kernels()
    assert cache.load(sha256(b"plan")) == fake.kernels.content != b""
    execute(shaped(plan, eager=False))  # one cache for both kinds of contexts
    plan.close()
    assert cache.load(sha256(b"plan")) == fake.kernels.content


def test_kernels_of_another_gpu_or_damaged_ones_are_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = CompileCache(tmp_path / "kernels")
    run(cache, monkeypatch, b"of another GPU")
    refused = run(cache, monkeypatch, b"of this GPU", accepts=False)
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


def test_a_plan_that_the_library_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"tensorrt-rtx 1\.7 cannot load the plan"):
        open_on(FakeTensorRt(refuses=True), monkeypatch)


@needs_rtx
def test_the_calls_are_those_of_the_library() -> None:
    """The calls that the fake has exist in the installed library."""
    trt = load_library("tensorrt-rtx").module
    for owner, names in (
        (trt.Runtime, ("deserialize_cuda_engine",)),
        (trt.ICudaEngine, ("create_runtime_config", "create_execution_context")),
        (
            trt.IRuntimeConfig,
            ("create_runtime_cache", "set_runtime_cache", "set_execution_context_allocation_strategy"),
        ),
        (trt.IRuntimeCache, ("serialize", "deserialize")),
        (
            trt.IExecutionContext,
            (
                "set_optimization_profile_async",
                "set_input_shape",
                "set_tensor_address",
                "update_device_memory_size_for_shapes",
                "set_device_memory",
                "execute_async_v3",
            ),
        ),
    ):
        assert all(callable(getattr(owner, name)) for name in names)
    for name in ("dynamic_shapes_kernel_specialization_strategy", "cuda_graph_strategy"):
        assert hasattr(trt.IRuntimeConfig, name)
    assert {"EAGER", "LAZY"} <= set(trt.DynamicShapesKernelSpecializationStrategy.__members__)
    assert hasattr(trt.CudaGraphStrategy, "WHOLE_GRAPH_CAPTURE")
    assert hasattr(trt.ExecutionContextAllocationStrategy, "USER_MANAGED")
