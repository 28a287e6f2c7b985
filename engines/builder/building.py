"""One path from fp32 weights to a proven engine: convert, compile, read back, compare, publish.

Nothing is published before the compiled layers have the precision that was asked for and the images agree
with the fp32 network; a build that fails leaves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepipe import __version__
from fusepipe.core.errors import EngineError
from fusepipe.engines import store
from fusepipe.engines.builder.proof import Proof, judge, require_achieved
from fusepipe.engines.builder.request import BuildRequest, Materials, Pair
from fusepipe.engines.builder.verify import prove
from fusepipe.engines.manifest import Manifest, Shapes, graph_path, manifest_path, read_manifest, read_plan, sha256

if TYPE_CHECKING:
    import onnx

CONVERSION = 2
"""Counted up when the conversion of graphs changes, so that engines of an older one are built anew."""
NEEDS_ONNX = "converting a network needs onnx and ml_dtypes: pip install 'fusepipe[build]'"


@dataclass(frozen=True, slots=True)
class Built:
    """A published engine; ``reused`` where a proven one of the same key was there."""

    plan: Path
    manifest: Manifest
    reused: bool = False


@dataclass(slots=True)
class Compiled:
    """A plan with what was read back from it."""

    plan: bytes
    graph: bytes
    layers: dict[str, str]
    kept_fp32: tuple[str, ...]
    library: str
    library_version: str
    device: str


Step = Callable[[str], None]


def build(
    request: BuildRequest,
    materials: Materials,
    output: Path | None = None,
    *,
    force: bool = False,
    step: Step = lambda text: None,
) -> Built:
    """Builds, proves and publishes an engine, or takes the one that is there with the same key.

    ``output`` is the plan's path, ``None`` the cache. An ``output`` with another engine is replaced only with
    ``force``. Raises :class:`EngineError`.
    """
    require_onnx()
    request = replace(request, shapes=_padded(request))
    key = engine_key(request, materials)
    name = store.engine_name(request.model, request.backend, request.precision, key)
    plan = store.default_folder() / name if output is None else output
    store.require_writable(plan)
    with store.building(plan):
        there = None if force else _there(plan, key, in_cache=output is None)
        if there is not None:
            return Built(plan, there, reused=True)
        began = time.monotonic()
        compiled = compile_engine(request, materials.calibration, step)
        achieved = require_achieved(request.precision, compiled.layers, compiled.kept_fp32)
        step("comparing with the fp32 network")
        proof = prove(request, compiled.plan, compiled.graph, materials)
        judge(proof, request.precision)
        manifest = _manifest(request, materials, compiled, achieved, proof, key, time.monotonic() - began)
        graph = None if compiled.graph == compiled.plan else compiled.graph
        store.publish(plan, compiled.plan, manifest, graph)
    return Built(plan, manifest)


def _padded(request: BuildRequest) -> Shapes:
    """The sizes of images as they reach the plan: an odd camera's are padded by what runs it."""
    from fusepipe.engines.graph import multiple_of, read_graph

    multiple = multiple_of(read_graph(request.onnx, request.model))
    return request.shapes.padded(multiple, raw=request.warp)


def require_onnx() -> None:
    """Raises :class:`EngineError` with the line that installs it where ``onnx`` is missing."""
    try:
        import_module("onnx")
        import_module("ml_dtypes")
    except ImportError as error:
        raise EngineError(f"{NEEDS_ONNX} ({error})") from error


def library_version(backend: str) -> tuple[str, str]:
    """(name, version) of what compiles for a backend; raises :class:`EngineError` where it is not installed."""
    if backend == "openvino":
        from fusepipe.engines.backends.openvino_graph import openvino_version

        return "openvino", openvino_version()
    from fusepipe.engines.backends.tensorrt.library import MODULES, load_library

    return MODULES[backend], load_library(backend).version


def engine_key(request: BuildRequest, materials: Materials) -> str:
    """Text of everything that decides about an engine. Never the plan's bytes: two equal builds differ in them."""
    parts: list[object] = [CONVERSION, __version__, request.model, sha256(request.onnx), request.backend]
    parts += [request.precision, *library_version(request.backend), request.shapes, request.shapes.batch]
    parts += [sorted(request.options.as_json().items()), request.convert, request.warp]
    if request.backend == "tensorrt":
        parts.append(request.gpu)
    if request.precision == "int8":
        parts += [sha256(b"".join(a.tobytes() + b.tobytes() for a, b in materials.calibration))]
    return "|".join(str(part) for part in parts)


def _there(plan: Path, key: str, *, in_cache: bool) -> Manifest | None:
    if not plan.exists():
        if not in_cache:
            _require_free(plan)
        return None
    try:
        manifest, _ = read_plan(plan)
    except EngineError:
        if in_cache:
            return None  # damaged: built over
        raise EngineError(f"{plan}: is there already and is no proven engine; --force replaces it") from None
    if manifest.options.get("key") == sha256(key.encode()):
        return manifest
    if in_cache:
        return None
    raise EngineError(
        f"{plan}: is another engine already ({manifest.model} {manifest.achieved_precision}); --force replaces it"
    )


def _require_free(plan: Path) -> None:
    """Nothing of the user's may lie where the manifest or the graph will: a model beside an engine of its name."""
    beside = [path for path in (manifest_path(plan), graph_path(plan)) if path.exists()]
    if not beside:
        return
    try:
        read_manifest(plan)  # of an engine whose plan was removed
    except EngineError:
        raise EngineError(
            f"{plan}: {beside[0]}, which belongs to such an engine, is there already and is another file; name another "
            "output, or --force replaces it"
        ) from None


# -- converting and compiling


def convert(request: BuildRequest, pairs: Sequence[Pair], step: Step = lambda text: None) -> onnx.ModelProto:
    """The graph in the precision that is asked for, as this backend wants it, with the warp if that is asked for."""
    from fusepipe.engines.builder.warp import with_warp
    from fusepipe.engines.graph import read_graph

    graph = read_graph(request.onnx, request.model)
    converted = _converted(request, graph, pairs, step) if request.convert else graph
    return with_warp(converted) if request.warp else converted


def _converted(request: BuildRequest, graph: onnx.ModelProto, pairs: Sequence[Pair], step: Step) -> onnx.ModelProto:
    from fusepipe.engines.builder import lower as lower_float
    from fusepipe.engines.builder import quantise
    from fusepipe.engines.builder import ranges as calibrate

    step("looking at the values of its layers")
    if request.precision == "int8":
        target: quantise.Target = "cpu" if request.backend == "openvino" else "tensorrt"
        return quantise.quantise(graph, calibrate.compute_inputs(graph, pairs), target)
    reach = calibrate.reach(graph, pairs)
    overflowing = lower_float.overflowing(graph, reach)
    if request.backend == "openvino" or request.precision == "fp32":
        return graph  # OpenVINO takes bf16 as a hint, and is asked afterwards what it did
    keep = overflowing if request.precision == "fp16" else []
    return lower_float.lower(graph, request.precision, keep)


def compile_engine(request: BuildRequest, pairs: Sequence[Pair], step: Step = lambda text: None) -> Compiled:
    """Converts and compiles; nothing is judged yet."""
    from fusepipe.engines.graph import compute_nodes, metadata, serialised

    model = convert(request, pairs, step)
    graph = serialised(model)
    kept = tuple(name for name in metadata(model, "kept_fp32").split(",") if name)
    names = [node.name for node in compute_nodes(model)]
    step("compiling")
    library, version = library_version(request.backend)
    if request.backend == "openvino":
        return _for_openvino(request, graph, names, _computing(model), kept, version)
    from fusepipe.engines.backends.tensorrt.library import load_library
    from fusepipe.engines.builder.tensorrt import build_plan

    plan, layers = build_plan(load_library(request.backend), graph, request.shapes, request.options, names)
    device = request.gpu.name if request.gpu else "none (built without a GPU)"
    return Compiled(plan, graph, _each(names, layers), kept, library, version, device)


def read_back(request: BuildRequest, graph: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """(precision of each compute layer, those kept fp32 on purpose) of a graph that was compiled, read anew here."""
    from fusepipe.engines.graph import compute_nodes, metadata, read_graph

    model = read_graph(graph, request.model)
    kept = tuple(name for name in metadata(model, "kept_fp32").split(",") if name)
    names = [node.name for node in compute_nodes(model)]
    if request.backend == "openvino":
        compiled = _for_openvino(request, graph, names, _computing(model), kept, "")
        return compiled.layers, kept
    from fusepipe.engines.backends.tensorrt.library import load_library
    from fusepipe.engines.builder.tensorrt import parse_network

    return _each(names, parse_network(load_library(request.backend), graph, names).precisions), kept


def _computing(model: onnx.ModelProto) -> list[str]:
    """Names of all nodes that OpenVINO computes as a layer, those among them that only move pixels."""
    from fusepipe.engines.graph import COMPUTE

    return [node.name for node in model.graph.node if node.op_type in COMPUTE]


def _for_openvino(
    request: BuildRequest, graph: bytes, names: list[str], known: list[str], kept: tuple[str, ...], version: str
) -> Compiled:
    """The plan of OpenVINO is the graph itself: it runs with any version, and is compiled for this CPU now."""
    from fusepipe.engines.backends.openvino import OpenVinoFuser

    width, height = request.shapes.best
    with OpenVinoFuser(request.model, graph, request.precision) as fuser:
        fuser.prepare(height, width, request.shapes.batch)
        layers = fuser.precisions((request.shapes.batch, height, width), names, known)
        return Compiled(graph, graph, _each(names, layers), kept, "openvino", version, fuser.info.device)


def _each(names: Iterable[str], found: Mapping[str, str]) -> dict[str, str]:
    """A precision for every compute layer: one that was not found in what was compiled is not proven either."""
    return {name: found.get(name, "not found") for name in names}


def _manifest(
    request: BuildRequest,
    materials: Materials,
    compiled: Compiled,
    achieved: str,
    proof: Proof,
    key: str,
    seconds: float,
) -> Manifest:
    from fusepipe.engines.graph import multiple_of, read_graph

    counts: dict[str, int] = {}
    for kind in compiled.layers.values():
        counts[kind] = counts.get(kind, 0) + 1
    options: dict[str, Any] = {**request.options.as_json(), "key": sha256(key.encode()), "convert": request.convert}
    options["images"] = materials.described
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
        proof=proof.as_json(),
        layers=counts,
        kept_fp32=compiled.kept_fp32,
        options=options,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        build_s=round(seconds, 2),
        rebuild=request.rebuild,
        fusepipe=__version__,
    )
