"""Builds an engine from fp32 weights: convert, compile, read the precision back, verify, publish.

An engine is published only if its compiled layers have the requested precision and its images agree with the fp32
network; a failed build leaves no files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepipe.core.errors import EngineError
from fusepipe.core.version import __version__
from fusepipe.engines import store
from fusepipe.engines.builder.agreement import require_agreement, require_precision
from fusepipe.engines.builder.request import BuildImages, BuildRequest, LumaPair
from fusepipe.engines.builder.verify import verify
from fusepipe.engines.fit import library_version
from fusepipe.engines.manifest import Manifest, Shapes, graph_path, manifest_path, read_manifest, read_plan, sha256
from fusepipe.engines.verification import Verification

if TYPE_CHECKING:
    import onnx

CONVERSION = 7
"""Version of the graph conversion: incremented with each change, so that older engines of the cache are rebuilt."""
_COMPILED = "the compiled model"
_PARSED = "the parsed network, strongly typed"  # what a GPU then executes is not read: it fuses layers into kernels
NEEDS_ONNX = "converting a network needs onnx and ml_dtypes: pip install 'fusepipe[build]'"


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A published engine; ``reused`` if a verified one with the same key existed already."""

    plan: Path
    manifest: Manifest
    reused: bool = False


@dataclass(slots=True)
class CompiledEngine:
    """A compiled plan, the graph it was compiled from, and the precision read back from each compute layer."""

    plan: bytes
    graph: bytes
    layers: dict[str, str]
    layers_from: str
    kept_fp32: tuple[str, ...]
    library: str
    library_version: str
    device: str


Announce = Callable[[str], None]


def build(
    request: BuildRequest,
    images: BuildImages,
    output: Path | None = None,
    *,
    force: bool = False,
    step: Announce = lambda text: None,
) -> BuiltEngine:
    """Builds, verifies and publishes an engine, or reuses an existing one with the same key.

    ``output`` is the path of the plan, ``None`` means the cache. Another engine at ``output`` is replaced only with
    ``force``. ``step`` receives a text for each step. Raises :class:`EngineError`.
    """
    require_onnx()
    request = replace(request, shapes=_padded(request))
    key = engine_key(request, images)
    name = store.engine_name(request.model, request.backend, request.precision, key)
    plan = store.engines_folder() / name if output is None else output
    store.require_writable(plan)
    with store.build_lock(plan):
        existing = None if force else _existing(plan, key, in_cache=output is None)
        if existing is not None:
            return BuiltEngine(plan, existing, reused=True)
        began = time.monotonic()
        compiled = compile_engine(request, images.calibration, step)
        achieved = require_precision(request.precision, compiled.layers, compiled.kept_fp32)
        step("comparing with the fp32 network")
        verification = verify(request, compiled.plan, compiled.graph, images)
        require_agreement(verification, request.precision)
        manifest = _manifest(request, images, compiled, achieved, verification, key, time.monotonic() - began)
        graph = None if compiled.graph == compiled.plan else compiled.graph
        store.publish(plan, compiled.plan, manifest, graph)
    return BuiltEngine(plan, manifest)


def _padded(request: BuildRequest) -> Shapes:
    """The shapes after padding to the multiple of the network."""
    from fusepipe.engines.onnx_graph import multiple_of, read_graph

    multiple = multiple_of(read_graph(request.onnx, request.model))
    return request.shapes.padded(multiple, raw=request.warp)


def require_onnx() -> None:
    """Raises :class:`EngineError` with the command to install ``onnx`` and ``ml_dtypes`` if one is missing."""
    try:
        import_module("onnx")
        import_module("ml_dtypes")
    except ImportError as error:
        raise EngineError(f"{NEEDS_ONNX} ({error})") from error


def engine_key(request: BuildRequest, images: BuildImages) -> str:
    """Cache key: all inputs of the build as text. Not the plan's bytes, which differ between equal builds."""
    parts: list[object] = [CONVERSION, __version__, request.model, sha256(request.onnx), request.backend]
    parts += [request.precision, *library_version(request.backend), request.shapes, request.shapes.batch]
    parts += [sorted(request.options.as_json().items()), request.convert, request.warp]
    if request.backend == "tensorrt":
        parts.append(request.gpu)
    if request.precision == "int8":
        parts += [sha256(b"".join(a.tobytes() + b.tobytes() for a, b in images.calibration))]
    return "|".join(str(part) for part in parts)


def _existing(plan: Path, key: str, *, in_cache: bool) -> Manifest | None:
    if not plan.exists():
        if not in_cache:
            _require_free(plan)
        return None
    try:
        manifest, _ = read_plan(plan)
    except EngineError:
        if in_cache:
            return None  # damaged: replaced
        raise EngineError(f"{plan}: already exists and is not a verified engine; --force replaces it") from None
    if manifest.options.get("key") == sha256(key.encode()):
        return manifest
    if in_cache:
        return None
    raise EngineError(
        f"{plan}: already exists as another engine ({manifest.model} {manifest.achieved_precision}); "
        "--force replaces it"
    )


def _require_free(plan: Path) -> None:
    """Raises :class:`EngineError` if the manifest or the graph would replace a file that is not of an engine."""
    beside = [path for path in (manifest_path(plan), graph_path(plan)) if path.exists()]
    if not beside:
        return
    try:
        read_manifest(plan)  # left over from an engine whose plan was removed
    except EngineError:
        raise EngineError(
            f"{plan}: the engine would also write {beside[0]}, which exists and is not of an engine; "
            "choose another output, or --force replaces it"
        ) from None


# -- converting and compiling


def convert(request: BuildRequest, pairs: Sequence[LumaPair], step: Announce = lambda text: None) -> onnx.ModelProto:
    """The graph in the requested precision, in the form the backend needs, with the warp if requested."""
    from fusepipe.engines.builder.warp_graph import add_warp
    from fusepipe.engines.onnx_graph import read_graph

    graph = read_graph(request.onnx, request.model)
    converted = _converted(request, graph, pairs, step) if request.convert else graph
    return add_warp(converted) if request.warp else converted


def _converted(
    request: BuildRequest, graph: onnx.ModelProto, pairs: Sequence[LumaPair], step: Announce
) -> onnx.ModelProto:
    from fusepipe.engines.builder.emulate import emulate
    from fusepipe.engines.builder.half_precision import lowered_nodes, overflowing_nodes, to_half_precision
    from fusepipe.engines.builder.quantise import quantise
    from fusepipe.engines.builder.shared_encoder import batch_shared_encoder
    from fusepipe.engines.builder.tensor_ranges import absolute_maxima, compute_input_ranges

    if request.backend != "openvino":
        batch_shared_encoder(graph)
    step("measuring the ranges of its layers")
    if request.precision == "int8":
        if request.backend == "openvino":
            return quantise(graph, compute_input_ranges(graph, pairs), "cpu")
        between = _half_between(graph, pairs)
        return quantise(between, compute_input_ranges(emulate(between), pairs), "tensorrt")
    overflowing = overflowing_nodes(graph, absolute_maxima(graph, pairs, lowered_nodes(graph, "fp16")))
    if request.backend == "openvino" or request.precision == "fp32":
        return graph  # OpenVINO takes bf16 as a hint; the precision is read back afterwards
    keep = overflowing if request.precision == "fp16" else []
    return to_half_precision(graph, request.precision, keep)


_FP16_SCALES_OPSET = 19  # the first with fp16 scales of QuantizeLinear


def _half_between(graph: onnx.ModelProto, pairs: Sequence[LumaPair]) -> onnx.ModelProto:
    """The graph that int8 layers are put into: fp16 between them, as far as values fit; fp32 in an older opset.

    A layer's output has the type of its scales in a strongly typed network: with fp32 scales a GPU moves four bytes a
    value between int8 layers, which is slower than fp16 throughout.
    """
    from fusepipe.engines.builder.half_precision import lowered_nodes, overflowing_nodes, to_half_precision
    from fusepipe.engines.builder.tensor_ranges import absolute_maxima

    opset = next(entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < _FP16_SCALES_OPSET:
        return graph
    overflowing = overflowing_nodes(graph, absolute_maxima(graph, pairs, lowered_nodes(graph, "fp16")))
    return to_half_precision(graph, "fp16", overflowing)


def compile_engine(
    request: BuildRequest, pairs: Sequence[LumaPair], step: Announce = lambda text: None
) -> CompiledEngine:
    """Converts and compiles, without verifying."""
    from fusepipe.engines.onnx_graph import compute_nodes, metadata, serialised

    model = convert(request, pairs, step)
    graph = serialised(model)
    kept = tuple(name for name in metadata(model, "kept_fp32").split(",") if name)
    names = [node.name for node in compute_nodes(model)]
    step("compiling")
    library, version = library_version(request.backend)
    if request.backend == "openvino":
        return _for_openvino(request, graph, names, _computing(model), kept, version)
    from fusepipe.engines.backends.tensorrt.library import load_library
    from fusepipe.engines.builder.tensorrt_plan import build_plan

    plan, layers = build_plan(load_library(request.backend), graph, request.shapes, request.options, names)
    device = request.gpu.name if request.gpu else "none (built without a GPU)"
    return CompiledEngine(plan, graph, _for_every_layer(names, layers), _PARSED, kept, library, version, device)


def read_precisions(request: BuildRequest, graph: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """(precision of each compute layer, layers kept fp32 on purpose) of a converted graph, compiled on this machine."""
    from fusepipe.engines.onnx_graph import compute_nodes, metadata, read_graph

    model = read_graph(graph, request.model)
    kept = tuple(name for name in metadata(model, "kept_fp32").split(",") if name)
    names = [node.name for node in compute_nodes(model)]
    if request.backend == "openvino":
        compiled = _for_openvino(request, graph, names, _computing(model), kept, "")
        return compiled.layers, kept
    from fusepipe.engines.backends.tensorrt.library import load_library
    from fusepipe.engines.builder.tensorrt_plan import parse_network

    return _for_every_layer(names, parse_network(load_library(request.backend), graph, names).precisions), kept


def _computing(model: onnx.ModelProto) -> list[str]:
    """Names of all nodes that OpenVINO runs as compute layers, including those that only move pixels."""
    from fusepipe.engines.onnx_graph import COMPUTE

    return [node.name for node in model.graph.node if node.op_type in COMPUTE]


def _for_openvino(
    request: BuildRequest, graph: bytes, names: list[str], known: list[str], kept: tuple[str, ...], version: str
) -> CompiledEngine:
    """OpenVINO's plan is the graph itself, which runs with any version; it is compiled here to read the layers."""
    from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser

    width, height = request.shapes.opt
    with OpenVinoFuser(request.model, graph, request.precision) as fuser:
        fuser.prepare(height, width, request.shapes.batch)
        layers = fuser.precisions((request.shapes.batch, height, width), names, known)
        return CompiledEngine(
            graph, graph, _for_every_layer(names, layers), _COMPILED, kept, "openvino", version, fuser.info.device
        )


def _for_every_layer(names: Iterable[str], found: Mapping[str, str]) -> dict[str, str]:
    """The precision of every compute layer; ``not found`` for layers missing from the compiled engine."""
    return {name: found.get(name, "not found") for name in names}


def _manifest(
    request: BuildRequest,
    images: BuildImages,
    compiled: CompiledEngine,
    achieved: str,
    verification: Verification,
    key: str,
    seconds: float,
) -> Manifest:
    from fusepipe.engines.onnx_graph import multiple_of, read_graph

    counts: dict[str, int] = {}
    for kind in compiled.layers.values():
        counts[kind] = counts.get(kind, 0) + 1
    options: dict[str, Any] = {**request.options.as_json(), "key": sha256(key.encode()), "convert": request.convert}
    options["images"] = images.description
    return Manifest(
        model=request.model,
        backend=request.backend,
        requested_precision=request.precision,
        achieved_precision=achieved,
        onnx_sha256=sha256(request.onnx),
        graph_sha256=sha256(compiled.graph),
        plan_sha256=sha256(compiled.plan),
        plan_bytes=len(compiled.plan),
        library=compiled.library,
        library_version=compiled.library_version,
        device=compiled.device,
        driver=request.gpu.driver_cuda if request.gpu else "",
        cuda=request.gpu.runtime_cuda if request.gpu else "",
        targets=request.options.target_sm,
        shapes=request.shapes,
        warp=request.warp,
        multiple=multiple_of(read_graph(compiled.graph, request.model)),
        verification=verification,
        layers=counts,
        layers_from=compiled.layers_from,
        kept_fp32=compiled.kept_fp32,
        options=options,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        build_s=round(seconds, 2),
        rebuild=request.rebuild,
        fusepipe=__version__,
    )
