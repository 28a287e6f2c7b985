"""``fusepipe verify-engine``: repeats the verification of an engine on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.models import NETWORKS
from fusepipe.engines.builder.agreement import require_agreement, require_precision
from fusepipe.engines.builder.build import read_precisions, require_onnx
from fusepipe.engines.builder.request import BuildImages, BuildRequest
from fusepipe.engines.builder.tensorrt_plan import PlanOptions
from fusepipe.engines.builder.verify import verify
from fusepipe.engines.choose import gpu_here
from fusepipe.engines.fit import runs_on, why_misfit
from fusepipe.engines.load import read_onnx
from fusepipe.engines.manifest import Manifest, graph_path, read_plan, rebuild_line, sha256
from fusepipe.engines.verification import Verification
from fusepipe.workflows.build_engine.build import read_model
from fusepipe.workflows.build_engine.image_pairs import folder_pairs, score_pair, verification_pairs, verification_warp

MAX_VERIFIED_PAIRS = 12


@dataclass(frozen=True, slots=True)
class VerifiedEngine:
    """The manifest of an engine and the verification repeated on this machine."""

    manifest: Manifest
    verification: Verification
    why_not_executed: str = ""

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if self.verification.executed:
            return "It fits this machine and agrees."
        return f"Its graph agrees; not executed here: {self.why_not_executed}."


def verify_engine(
    plan: Path, folders: tuple[Path, Path] | None = None, model: Path | None = None, device: str | None = None
) -> VerifiedEngine:
    """Checks hashes and versions of an engine, reads its precision back and repeats its verification.

    ``folders`` are (infrared, visible) folders of registered pairs, ``None`` the synthetic street. ``model`` is the
    ONNX file of an engine that was built from one; ``device`` is a GPU's index or UUID. Raises :class:`EngineError`.
    """
    require_onnx()
    manifest, content = read_plan(plan)
    if model is None and manifest.model not in NETWORKS:
        raise UsageError(f"{plan}: was built from a file of yours, {manifest.model}.onnx: name it with --model")
    onnx = read_onnx(manifest.model) if model is None else read_model(str(model))[1]
    why = why_misfit(manifest, sha256(onnx), device)
    if why:
        raise EngineError(f"{plan}: does not fit here: {why}; {rebuild_line(manifest)}")
    graph = content if manifest.backend == "openvino" else _read_graph(plan, manifest)
    gpu, why_no_gpu = gpu_here(device)
    request = BuildRequest(
        manifest.model,
        onnx,
        manifest.backend,
        manifest.requested_precision,
        manifest.shapes,
        PlanOptions(version_compatible=bool(manifest.options.get("version_compatible"))),
        warp=manifest.warp,
        gpu=gpu if runs_on(manifest.backend, gpu) else None,
    )
    require_precision(manifest.requested_precision, *read_precisions(request, graph))
    pairs = verification_pairs() if folders is None else folder_pairs(*folders, MAX_VERIFIED_PAIRS)
    build_images = BuildImages((), pairs, score_pair, make_warp=verification_warp)
    verification = verify(request, content, graph, build_images)
    require_agreement(verification, manifest.requested_precision)
    return VerifiedEngine(manifest, verification, why_no_gpu)


def _read_graph(plan: Path, manifest: Manifest) -> bytes:
    path = graph_path(plan)
    try:
        graph = path.read_bytes()
    except OSError as error:
        raise EngineError(
            f"{path}: cannot be read ({error.strerror or error}); it is needed to read the precision back"
        ) from error
    if sha256(graph) != manifest.graph_sha256:
        raise EngineError(f"{path}: is not the graph that was compiled; {rebuild_line(manifest)}")
    return graph
