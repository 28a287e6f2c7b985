"""``fusepipe list-engines``: the engines of a folder, and whether each still fits this machine."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.models import NETWORKS
from fusepipe.engines import store
from fusepipe.engines.choose import gpu_here
from fusepipe.engines.fit import why_misfit
from fusepipe.engines.load import read_onnx
from fusepipe.engines.manifest import Manifest, damage, sha256


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """One engine; ``manifest`` is ``None`` if it is damaged, ``problem`` empty if it fits.

    ``no_gpu``: why no GPU here can run it, so that nothing is known of whether it fits; empty for engines of the CPU.
    """

    engine: Path
    manifest: Manifest | None
    size_bytes: int
    age_s: int
    problem: str
    no_gpu: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON output."""
        entry = {key: value for key, value in asdict(self).items() if key != "manifest"}
        entry |= {"engine": str(self.engine), "fits": not (self.problem or self.no_gpu)}
        if self.manifest is not None:
            keys = ("model", "backend", "library_version", "built", "rebuild")
            entry |= {key: getattr(self.manifest, key) for key in keys}
            entry |= {"precision": self.manifest.achieved_precision, "shapes": str(self.manifest.shapes)}
        return entry


def list_engines(folder: Path | None = None) -> tuple[Path, list[EngineEntry]]:
    """(folder, its engines, newest first); ``None`` is the cache. Raises :class:`UsageError` for a missing folder."""
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    folder = folder or store.engines_folder()
    entries = []
    for stored in store.stored_engines(folder):
        problem = stored.problem or (_problem(stored.plan, stored.manifest) if stored.manifest else "")
        age_s = round(time.time() - stored.modified_s)
        no_gpu = "" if stored.manifest is None else _why_no_gpu(stored.manifest.backend)
        entries.append(EngineEntry(stored.plan, stored.manifest, stored.size_bytes, age_s, problem, no_gpu))
    return folder, entries


def _why_no_gpu(backend: str) -> str:
    """Why no GPU here runs engines of a backend; empty for those of the CPU."""
    if backend == "openvino":
        return ""
    gpu, why = gpu_here(None)
    return "" if gpu is not None else why


def _problem(plan: Path, manifest: Manifest) -> str:
    current = sha256(read_onnx(manifest.model)) if manifest.model in NETWORKS else None
    try:
        return why_misfit(manifest, current) or damage(plan)
    except EngineError as error:  # its library is not installed
        return str(error)
