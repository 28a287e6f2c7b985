"""What ``fusepipe build-engine`` does beyond the engine itself: names, choices, images and the rebuild command."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fusepipe.calibration.warp import RemapWarp
from fusepipe.core import machine
from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.models import BUILDERS, NETWORKS
from fusepipe.core.suggest import did_you_mean
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.backends.tensorrt.library import load_library
from fusepipe.engines.builder.building import Built, build, read_back, require_onnx
from fusepipe.engines.builder.proof import Proof, judge, require_achieved
from fusepipe.engines.builder.request import BuildRequest, Materials
from fusepipe.engines.builder.tensorrt import PlanOptions, require_options
from fusepipe.engines.builder.verify import prove
from fusepipe.engines.choose import Choice, cpu_precision, gpu_backend, gpu_here, installed
from fusepipe.engines.load import read_onnx
from fusepipe.engines.manifest import (
    Manifest,
    Shapes,
    graph_path,
    manifest_path,
    misfit,
    read_plan,
    rebuild_line,
    sha256,
)
from fusepipe.workflows import engine_images

DEFAULT_SHAPES = Shapes((64, 64), (640, 480), (1920, 1088))
PRECISIONS = {"openvino": ("fp32", "bf16", "int8"), "tensorrt": ("fp32", "fp16", "bf16", "int8")}
PRECISIONS["tensorrt-rtx"] = PRECISIONS["tensorrt"]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The command's. ``model`` is a network's name or an ONNX file, ``images`` (infrared, visible) folders."""

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """The engine, and why its backend and precision were taken."""

    built: Built
    backend: Choice
    precision: Choice


def read_model(model: str) -> tuple[str, bytes]:
    """(name, ONNX) of a network that ships, or of a file; raises :class:`UsageError` or :class:`EngineError`."""
    if model in NETWORKS:
        return model, read_onnx(model)
    path = Path(model)
    if path.suffix.lower() != ".onnx":
        raise UsageError(
            f"there is no network {model!r}: {did_you_mean(model, sorted(NETWORKS))} (or the path of an .onnx file)"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror or error})") from error
    if path.stem in NETWORKS and content != read_onnx(path.stem):
        raise UsageError(f"{path}: has the name of a network that ships, and is another; rename the file")
    return re.sub(r"[^\w.-]", "_", path.stem), content


def choose(options: BuildOptions) -> tuple[BuildOptions, Choice, Choice, BuildRequest]:
    """Resolves the names; raises :class:`UsageError` for those that do not exist or do not go together."""
    name, onnx = read_model(options.model)
    if options.backend not in ("auto", *BUILDERS):
        raise UsageError(
            f"engines are not built for {options.backend!r}: {did_you_mean(options.backend, ['auto', *BUILDERS])}"
        )
    gpu, why_not = gpu_here()
    if options.backend == "auto":
        backend = _auto_backend(options.precision, gpu, why_not)
    else:
        backend = Choice(options.backend, "asked for")
    if backend.name == "tensorrt" and gpu is None:
        raise EngineError(
            f"tensorrt builds on the GPU that runs the engine, and none answers here ({why_not}); "
            "--backend tensorrt-rtx builds without one, --backend openvino is for CPUs"
        )
    precision = _precision(options.precision, backend.name)
    if backend.name == "openvino":
        _require_no_plan_options(options.plan)
    else:
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
        gpu=gpu if _runs(backend.name, gpu) else None,
    )
    return options, backend, precision, request


def _runs(backend: str, gpu: Gpu | None) -> bool:
    """Whether engines of a backend run on this GPU: their proof is computed on the CPU where they do not."""
    return gpu is not None and (backend == "tensorrt" or (backend == "tensorrt-rtx" and machine.rtx_runs_on(gpu.sm)))


def _auto_backend(precision: str, gpu: Gpu | None, why_not: str) -> Choice:
    """What runs here; for a precision that only GPUs have, what builds it here."""
    choice = gpu_backend(gpu, why_not)
    if choice.name != "openvino" or precision in ("auto", *PRECISIONS["openvino"]):
        return choice
    why = choice.reason.removeprefix("auto: ")
    if installed("tensorrt-rtx"):
        return Choice(
            "tensorrt-rtx", f"auto: {precision} is for NVIDIA GPUs; {why}, and tensorrt-rtx builds without one"
        )
    raise UsageError(
        f"{precision} engines are for NVIDIA GPUs ({why}): pip install 'fusepipe[build,tensorrt-rtx]' builds them "
        f"without one; for this CPU take --precision auto, {', '.join(PRECISIONS['openvino'])}"
    )


def _require_no_plan_options(plan: PlanOptions) -> None:
    given = [f"--{key.replace('_', '-').removesuffix('-mib')}" for key in plan.as_json()]
    given += ["--timing-cache"] if plan.timing_cache is not None else []
    if given:
        verb = "is" if len(given) == 1 else "are"
        raise UsageError(
            f"{', '.join(given)} {verb} for TensorRT: leave out for --backend openvino, or take --backend tensorrt-rtx"
        )


def _precision(asked: str, backend: str) -> Choice:
    if asked != "auto":
        if asked not in PRECISIONS[backend]:
            raise UsageError(f"{backend} has no precision {asked}; take {', '.join(PRECISIONS[backend])}")
        return Choice(asked, "asked for")
    if backend != "openvino":
        return Choice("fp16", "auto: fp16 is what GPUs are fast at, and loses nothing that can be seen")
    return cpu_precision()


def build_engine(
    options: BuildOptions, *, rebuild: str = "", step: Callable[[str], None] = lambda text: None
) -> Outcome:
    """Builds and proves; see :func:`fusepipe.engines.builder.building.build`."""
    require_onnx()
    options, backend, precision, request = choose(options)
    _require_own_model_kept(options)
    step("reading images")
    built = build(
        replace(request, rebuild=rebuild), _materials(options), options.output, force=options.force, step=step
    )
    return Outcome(built, backend, precision)


def _require_own_model_kept(options: BuildOptions) -> None:
    """The file that an engine is built from is never one that the engine's files replace, not even with ``force``."""
    plan = options.output
    if plan is None or options.model in NETWORKS:
        return
    for path in (plan, manifest_path(plan), graph_path(plan)):
        if path.exists() and path.samefile(options.model):
            raise UsageError(f"--output {plan}: the engine's {path.name} would replace --model {options.model}")


def proof_warp(size: tuple[int, int]) -> RemapWarp:
    """What engines with the registration are proven with: turned, enlarged and moved, so that some is unseen."""
    width, height = size
    turn = np.deg2rad(3.0)
    cosine, sine = 1.1 * np.cos(turn), 1.1 * np.sin(turn)
    across, down = 0.06 * width, -0.03 * height
    return RemapWarp([[cosine, -sine, across], [sine, cosine, down], [0, 0, 1]], size, size)


def _materials(options: BuildOptions) -> Materials:
    if options.images is None:
        calibration, proof = engine_images.calibration_pairs(), engine_images.proof_pairs()
        return Materials(calibration, proof, engine_images.score, "synthetic://street", proof_warp)
    infrared, visible = options.images
    pairs = engine_images.folder_pairs(infrared, visible, engine_images.CALIBRATION_PAIRS + engine_images.PROOF_PAIRS)
    if len(pairs) < 2:
        raise UsageError(f"{infrared}: one pair is not enough, calibration and proof take different ones")
    # every n-th pair proves, the others calibrate: both see the whole range of scenes
    every = max(2, len(pairs) // engine_images.PROOF_PAIRS)
    proof = pairs[::every][: engine_images.PROOF_PAIRS]
    calibration = [pair for index, pair in enumerate(pairs) if index % every]
    return Materials(calibration, proof, engine_images.score, f"{infrared} and {visible}", proof_warp)


@dataclass(frozen=True, slots=True)
class Verified:
    """The proof, repeated on this machine."""

    manifest: Manifest
    proof: Proof


def verify_engine(plan: Path, images: tuple[Path, Path] | None = None, model: Path | None = None) -> Verified:
    """Checks hashes and versions of an engine, reads its precision back and repeats its proof here.

    ``model`` is the ONNX file of an engine that was built from one. Raises :class:`EngineError`.
    """
    require_onnx()
    manifest, content = read_plan(plan)
    if model is None and manifest.model not in NETWORKS:
        raise UsageError(f"{plan}: was built from a file of yours, {manifest.model}.onnx: name it with --model")
    onnx = read_onnx(manifest.model) if model is None else read_model(str(model))[1]
    gpu, _ = gpu_here()
    why = why_misfit(manifest, sha256(onnx))
    if why:
        raise EngineError(f"{plan}: does not fit here: {why}; {rebuild_line(manifest)}")
    graph = content if manifest.backend == "openvino" else _graph(plan, manifest)
    request = BuildRequest(
        manifest.model,
        onnx,
        manifest.backend,
        manifest.requested_precision,
        manifest.shapes,
        PlanOptions(),
        warp=manifest.warp,
        gpu=gpu if _runs(manifest.backend, gpu) else None,
    )
    require_achieved(manifest.requested_precision, *read_back(request, graph))
    pairs = engine_images.proof_pairs() if images is None else engine_images.folder_pairs(*images, 12)
    proof = prove(request, content, graph, Materials((), pairs, engine_images.score, warp_of=proof_warp))
    judge(proof, manifest.requested_precision)
    return Verified(manifest, proof)


def _graph(plan: Path, manifest: Manifest) -> bytes:
    path = graph_path(plan)
    try:
        graph = path.read_bytes()
    except OSError as error:
        raise EngineError(
            f"{path}: cannot be read ({error.strerror or error}); its precision is read back from there"
        ) from error
    if sha256(graph) != manifest.graph_sha256:
        raise EngineError(f"{path}: is not the graph that was compiled; {rebuild_line(manifest)}")
    return graph


def why_misfit(manifest: Manifest, onnx_sha256: str | None) -> str:
    """Why an engine does not run on this machine, empty where it does."""
    from fusepipe.engines.builder.building import library_version

    try:
        _, version = library_version(manifest.backend)
    except EngineError as error:
        return str(error)
    gpu, _ = gpu_here()
    return misfit(
        manifest,
        library_version=version,
        onnx_sha256=onnx_sha256,
        sm=gpu.sm if gpu else "",
        device=gpu.name if gpu else "",
    )
