"""The options named as in trtexec: applied by TensorRT-RTX, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import IMAGES, PAIRS, SHAPES, build_request, needs_rtx, smooth_image

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.fuser import FuserInfo
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.backends.tensorrt.library import Library, load_library
from fusepipe.engines.backends.tensorrt.runtime import TensorRtFuser
from fusepipe.engines.builder import tensorrt_plan
from fusepipe.engines.builder.build import build, compile_engine
from fusepipe.engines.builder.tensorrt_plan import PlanOptions
from fusepipe.engines.manifest import Shapes
from fusepipe.workflows.build_engine.image_pairs import verification_warp

pytestmark = pytest.mark.usefixtures("engine_cache")


def compiled(**options: Any) -> bytes:
    asked = build_request("tensorrt-rtx", "fp16", options=PlanOptions(**options))
    return compile_engine(asked, PAIRS[:1]).plan


@needs_rtx
def test_what_was_asked_for_is_in_the_manifest_and_another_engine_is_not_replaced(tmp_path: Path) -> None:
    options = PlanOptions(workspace_mib=256, opt_level=2, target_sm=("SM89",))
    built = build(build_request("tensorrt-rtx", "fp16", options=options), IMAGES, tmp_path / "x.plan")
    assert built.manifest.targets == ("SM89",) and built.manifest.options["opt_level"] == 2
    assert built.manifest.options["workspace_mib"] == 256 and built.manifest.shapes == SHAPES
    with pytest.raises(EngineError, match="already exists as another engine"):
        build(build_request("tensorrt-rtx", "fp32"), IMAGES, tmp_path / "x.plan")
    assert build(build_request("tensorrt-rtx", "fp32"), IMAGES, tmp_path / "x.plan", force=True).plan.exists()


@needs_rtx
@pytest.mark.parametrize("level", [0, 5])
def test_opt_level(level: int) -> None:
    assert len(compiled(opt_level=level)) > 100_000


@needs_rtx
def test_a_workspace_that_is_too_small_is_named() -> None:
    """The builder's error shows that the limit was applied."""
    with pytest.raises(EngineError, match=r"(?i)workspace"):
        compiled(workspace_mib=1)


@needs_rtx
def test_target_sm() -> None:
    assert len(compiled(target_sm=("SM89", "SM120"))) > 100_000
    with pytest.raises(UsageError, match=r"builds for .*SM89.*, not for SM90"):
        compiled(target_sm=("SM90",))


@needs_rtx
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version_compatible": True}, "omit --version-compatible"),
        ({"timing_cache": Path("timings")}, "omit --timing-cache"),
    ],
)
def test_what_tensorrt_rtx_does_not_have(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        compiled(**options)
    assert caught.value.exit_code == 2


# -- plain TensorRT: not installed here, so the configuration records its calls


class Notes:
    """A builder configuration that records its calls."""

    builder_optimization_level = 3
    profiling_verbosity = "names of layers"

    def __init__(self, complain: Any = lambda: None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._complain = complain

    def set_memory_pool_limit(self, pool: str, size_bytes: int) -> None:
        self.calls.append((pool, size_bytes))

    def set_flag(self, flag: str) -> None:
        self.calls.append((flag,))

    def clear_flag(self, flag: str) -> None:
        self.calls.append(("without", flag))

    def create_timing_cache(self, content: bytes) -> object:
        self._complain()
        self.calls.append(("timings", content))
        return object()

    def set_timing_cache(self, cache: object, ignore_mismatch: bool) -> bool:
        return not ignore_mismatch


def plain() -> Library:
    module = SimpleNamespace(
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        BuilderFlag=SimpleNamespace(VERSION_COMPATIBLE="any", TF32="tf32"),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
    )
    return Library("tensorrt", module, "10.13", None, [])


def test_tensorrt_gets_its_options() -> None:
    config = Notes()
    options = PlanOptions(workspace_mib=2, opt_level=4, version_compatible=True)
    tensorrt_plan.apply_options(plain(), config, options)
    assert config.calls == [("without", "tf32"), ("workspace", 2 << 20), ("any",)]
    assert config.builder_optimization_level == 4
    assert config.profiling_verbosity == "detailed", "the engine inspector would not know the types of layers"
    tensorrt_plan.require_options(plain(), options)
    with pytest.raises(UsageError, match="--target-sm is for tensorrt-rtx"):
        tensorrt_plan.require_options(plain(), PlanOptions(target_sm=("SM89",)))


@needs_rtx
def test_fp32_is_fp32() -> None:
    """The library multiplies fp32 in TF32, with a 10-bit mantissa, unless TF32 is switched off."""
    library = load_library("tensorrt-rtx")
    config = library.module.Builder(library.logger).create_builder_config()
    flag = library.module.BuilderFlag.TF32
    assert config.get_flag(flag), "it is off by now: clearing it is not needed any more"
    tensorrt_plan.apply_options(library, config, PlanOptions())
    assert not config.get_flag(flag)


@needs_rtx
@pytest.mark.parametrize("warp", [False, True])
def test_an_engine_for_one_odd_size_takes_that_size(warp: bool) -> None:
    """Images are padded to the network's multiple on their way; raw infrared ones are not."""
    size, images = (97, 65), replace(IMAGES, make_warp=verification_warp)
    built = build(build_request("tensorrt-rtx", "fp32", shapes=Shapes(size, size, size, 2), warp=warp), images)
    shapes, cuda, multiple = built.manifest.shapes, FakeCuda(), built.manifest.multiple
    up, down = {2: ((98, 66), (96, 64)), 16: ((112, 80), (96, 64))}[multiple]
    assert (shapes.opt, shapes.max) == (up, up) and shapes.min == (down if warp else up)
    assert shapes.batch == 2
    graph = built.plan.with_name(f"{built.plan.name}.onnx").read_bytes()
    info = FuserInfo("stream", "tensorrt-rtx", "fp32", accepts_warp=warp, max_in_flight=2, max_batch=2)
    with TensorRtFuser(info, shapes, multiple, lambda: FakePlan(cuda, graph), lambda: cuda) as fuser:
        assert fuser.fuse(smooth_image(1, 65, 97), smooth_image(2, 65, 97)).shape == (65, 97)


@pytest.mark.parametrize(
    ("sizes", "multiple"), [((1, 1, 1), 2), ((641, 479, 1), 4), ((640, 480, 1), 2), ((97, 9, 1), 16)]
)
def test_every_size_between_least_and_most_fits_after_padding(sizes: tuple[int, int, int], multiple: int) -> None:
    width, height, batch = sizes
    asked = Shapes((width, height), (width, height), (width, height), batch)
    for raw in (False, True):
        shapes = asked.padded(multiple, raw=raw)
        padded = -(-height // multiple) * multiple, -(-width // multiple) * multiple
        assert shapes.refusal(*padded, batch) == ""
        assert not raw or shapes.refusal(max(height, multiple), max(width, multiple), batch) == ""


def test_a_timing_cache_is_read_and_one_that_is_refused_is_named(tmp_path: Path) -> None:
    path, library = tmp_path / "timings", plain()
    assert tensorrt_plan.open_timing_cache(library, Notes(), path) is not None  # it is written after the first build
    path.write_bytes(b"of another GPU")
    config = Notes()
    tensorrt_plan.open_timing_cache(library, config, path)
    assert config.calls == [("timings", b"of another GPU")]
    refusing = Notes(lambda: library.log.append("The timing cache will not be used!"))
    with pytest.raises(EngineError, match=r"rejects this timing cache \(The timing cache will not be used!\)"):
        tensorrt_plan.open_timing_cache(library, refusing, path)


@needs_rtx
def test_the_calls_of_the_options_are_those_of_the_library() -> None:
    """The calls that :class:`Notes` fakes exist in the installed library."""
    trt = load_library("tensorrt-rtx").module
    config = trt.IBuilderConfig
    for name in ("set_memory_pool_limit", "set_flag", "create_timing_cache", "set_timing_cache"):
        assert callable(getattr(config, name))
    assert hasattr(config, "builder_optimization_level")
    assert hasattr(trt.MemoryPoolType, "WORKSPACE") and hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE")
