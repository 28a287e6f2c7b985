"""``fusepipe build-engine``: resolves model, backend and precision, makes the images, builds and verifies."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.models import BUILDERS, NETWORKS
from fusepipe.core.suggest import did_you_mean
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.backends.tensorrt.library import load_library
from fusepipe.engines.builder.build import BuiltEngine, build, require_onnx
from fusepipe.engines.builder.request import BuildImages, BuildRequest
from fusepipe.engines.builder.tensorrt_plan import PlanOptions, require_options
from fusepipe.engines.choose import (
    Choice,
    cpu_precision,
    gpu_backend,
    gpu_here,
    misfit_of_packages,
    package_installed,
)
from fusepipe.engines.fit import TURING, runs_on, unsupported_precision
from fusepipe.engines.load import read_onnx
from fusepipe.engines.manifest import Shapes, graph_path, manifest_path
from fusepipe.workflows.build_engine.image_pairs import (
    CALIBRATION_PAIRS,
    VERIFICATION_PAIRS,
    calibration_pairs,
    folder_pairs,
    score_pair,
    verification_pairs,
    verification_warp,
)

DEFAULT_SHAPES = Shapes((64, 64), (640, 480), (1920, 1088))
PRECISIONS = {
    "openvino": ("fp32", "bf16", "int8"),
    "tensorrt": ("fp32", "fp16", "bf16", "int8"),
    "tensorrt-rtx": ("fp32", "fp16", "bf16"),
}

_WITHOUT_INT8 = " (its int8 is for the weights of matrix products, not for convolutions; --backend tensorrt has it)"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Options of the command. ``model`` is a network's name or an ONNX file, ``images`` (infrared, visible) folders."""

    model: str = "stream"
    backend: str = "auto"
    precision: str = "auto"
    shapes: Shapes = DEFAULT_SHAPES
    plan: PlanOptions = field(default_factory=PlanOptions)
    convert: bool = True
    warp: bool = False
    images: tuple[Path, Path] | None = None
    output: Path | None = None
    force: bool = False
    device: str | None = None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The engine, and why its backend and precision were chosen."""

    engine: BuiltEngine
    backend: Choice
    precision: Choice


def read_model(model: str) -> tuple[str, bytes]:
    """(name, ONNX) of a shipped network or of a file; raises :class:`UsageError` or :class:`EngineError`."""
    if model in NETWORKS:
        return model, read_onnx(model)
    path = Path(model)
    if path.suffix.lower() != ".onnx":
        raise UsageError(
            f"unknown network {model!r}: {did_you_mean(model, sorted(NETWORKS))} (or the path of an .onnx file)"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror or error})") from error
    if path.stem in NETWORKS and content != read_onnx(path.stem):
        raise UsageError(f"{path}: has the name of a shipped network but other weights; rename the file")
    return re.sub(r"[^\w.-]", "_", path.stem), content


def resolve_options(options: BuildOptions) -> tuple[BuildOptions, Choice, Choice, BuildRequest]:
    """Resolves ``auto`` and checks the names; raises :class:`UsageError` for unknown or contradictory ones."""
    name, onnx = read_model(options.model)
    if options.backend not in ("auto", *BUILDERS):
        raise UsageError(
            f"engines are not built for {options.backend!r}: {did_you_mean(options.backend, ['auto', *BUILDERS])}"
        )
    gpu, why_not = gpu_here(options.device)
    if options.backend == "auto":
        backend = _auto_backend(options.precision, gpu, why_not)
    else:
        backend = Choice(options.backend, "asked for")
    if gpu is not None and backend.name != "openvino":
        why_not = misfit_of_packages(backend.name, gpu)
    if backend.name == "tensorrt" and why_not:
        raise EngineError(
            f"tensorrt builds on the GPU that runs the engine, and none can be used ({why_not}); "
            "--backend tensorrt-rtx builds without one, --backend openvino is for CPUs"
        )
    precision = _precision(options.precision, backend.name)
    if backend.name == "openvino":
        _require_no_plan_options(options.plan)
    else:
        options = replace(options, plan=_plan_options(options.plan, backend.name, precision.name, gpu))
        require_options(load_library(backend.name), options.plan)
    request = BuildRequest(
        name,
        onnx,
        backend.name,
        precision.name,
        options.shapes,
        options.plan,
        convert=options.convert,
        warp=options.warp,
        gpu=gpu if runs_on(backend.name, gpu) else None,
    )
    return options, backend, precision, request


def _auto_backend(precision: str, gpu: Gpu | None, why_not: str) -> Choice:
    """The backend that runs on this machine; for a precision of GPUs only, the one that builds it here."""
    choice = gpu_backend(gpu, why_not)
    if choice.name != "openvino" or precision in ("auto", *PRECISIONS["openvino"]):
        return choice
    why = choice.reason.removeprefix("auto: ")
    if package_installed("tensorrt-rtx"):
        return Choice(
            "tensorrt-rtx", f"auto: {precision} is for NVIDIA GPUs; {why}, and tensorrt-rtx builds without one"
        )
    raise UsageError(
        f"{precision} engines are for NVIDIA GPUs ({why}): pip install 'fusepipe[build,tensorrt-rtx]' builds them "
        f"without one; for this CPU use --precision auto, {', '.join(PRECISIONS['openvino'])}"
    )


def _require_no_plan_options(plan: PlanOptions) -> None:
    given = [f"--{key.replace('_', '-').removesuffix('-mib')}" for key in plan.as_json()]
    given += ["--timing-cache"] if plan.timing_cache is not None else []
    if given:
        verb = "is" if len(given) == 1 else "are"
        raise UsageError(
            f"{', '.join(given)} {verb} for TensorRT: omit for --backend openvino, or use --backend tensorrt-rtx"
        )


def _plan_options(plan: PlanOptions, backend: str, precision: str, gpu: Gpu | None) -> PlanOptions:
    """The options with the target that this GPU needs; raises :class:`UsageError` for a precision it does not have."""
    here = () if gpu is None else (gpu.sm,)
    if backend == "tensorrt-rtx" and not plan.target_sm and here == (TURING,):
        plan = replace(plan, target_sm=here)
    why = unsupported_precision(precision, plan.target_sm if backend == "tensorrt-rtx" else here)
    if why:
        raise UsageError(f"--precision {precision}: {why}")
    return plan


def _precision(asked: str, backend: str) -> Choice:
    if asked != "auto":
        if asked not in PRECISIONS[backend]:
            why = _WITHOUT_INT8 if (backend, asked) == ("tensorrt-rtx", "int8") else ""
            raise UsageError(f"{backend} has no precision {asked}{why}; take {', '.join(PRECISIONS[backend])}")
        return Choice(asked, "asked for")
    if backend != "openvino":
        return Choice("fp16", "auto: fp16, fast on GPUs and without a visible difference")
    return cpu_precision()


def build_engine(
    options: BuildOptions, *, rebuild: str = "", step: Callable[[str], None] = lambda text: None
) -> BuildResult:
    """Builds and verifies; see :func:`fusepipe.engines.builder.build.build`."""
    require_onnx()
    options, backend, precision, request = resolve_options(options)
    _require_own_model_kept(options)
    step("rendering image pairs of the synthetic street" if options.images is None else "reading the image pairs")
    built = build(
        replace(request, rebuild=rebuild), _build_images(options), options.output, force=options.force, step=step
    )
    return BuildResult(built, backend, precision)


def _require_own_model_kept(options: BuildOptions) -> None:
    """Raises :class:`UsageError` if the engine would replace the model it is built from, even with ``force``."""
    plan = options.output
    if plan is None or options.model in NETWORKS:
        return
    for path in (plan, manifest_path(plan), graph_path(plan)):
        if path.exists() and path.samefile(options.model):
            raise UsageError(f"--output {plan}: the engine's {path.name} would replace --model {options.model}")


def _build_images(options: BuildOptions) -> BuildImages:
    if options.images is None:
        calibration, verification = calibration_pairs(), verification_pairs()
        return BuildImages(calibration, verification, score_pair, "synthetic://street", verification_warp)
    infrared, visible = options.images
    pairs = folder_pairs(infrared, visible, CALIBRATION_PAIRS + VERIFICATION_PAIRS)
    if len(pairs) < 2:
        raise UsageError(f"{infrared}: one pair is not enough: calibration and verification need different ones")
    # every n-th pair verifies, the others calibrate: both cover the whole range of scenes
    every = max(2, len(pairs) // VERIFICATION_PAIRS)
    verification = pairs[::every][:VERIFICATION_PAIRS]
    calibration = [pair for index, pair in enumerate(pairs) if index % every]
    return BuildImages(calibration, verification, score_pair, f"{infrared} and {visible}", verification_warp)
