"""Whether an engine fits this machine: the same weights, library version and GPU as it was built for."""

from __future__ import annotations

from packaging.version import Version

from fusepipe.core.machine import rtx_runs_on
from fusepipe.engines import choose
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.manifest import Manifest


def library_version(backend: str) -> tuple[str, str]:
    """(name, version) of the library that compiles for a backend; raises :class:`EngineError` if not installed."""
    if backend == "openvino":
        from fusepipe.engines.backends.openvino.network import openvino_version

        return "openvino", openvino_version()
    from fusepipe.engines.backends.tensorrt.library import MODULES, load_library

    return MODULES[backend], load_library(backend).version


def runs_on(backend: str, gpu: Gpu | None) -> bool:
    """Whether engines of a backend run on this GPU."""
    return gpu is not None and (backend == "tensorrt" or (backend == "tensorrt-rtx" and rtx_runs_on(gpu.sm)))


def why_misfit(manifest: Manifest, onnx_sha256: str | None) -> str:
    """Why an engine does not run on this machine; empty if it does.

    ``onnx_sha256`` is the current network of that name, ``None`` if unknown. Raises :class:`EngineError` with the
    command that installs the engine's library where that is missing.
    """
    _, version = library_version(manifest.backend)
    gpu = None if manifest.backend == "openvino" else choose.gpu_here()[0]
    sm, device = (gpu.sm, gpu.name) if gpu else ("", "")
    return misfit(manifest, library_version=version, onnx_sha256=onnx_sha256, sm=sm, device=device)


def misfit(manifest: Manifest, *, library_version: str, onnx_sha256: str | None, sm: str = "", device: str = "") -> str:
    """:func:`why_misfit` for a given machine.

    ``sm`` is the architecture of its GPU (``SM89``), empty without a GPU; ``device`` is the GPU's name, which plans of
    plain TensorRT are tied to.
    """
    if onnx_sha256 is not None and manifest.onnx_sha256 != onnx_sha256:
        return f"it was built from other weights ({manifest.onnx_sha256[:12]}, now {onnx_sha256[:12]})"
    portable = manifest.options.get("version_compatible") or manifest.backend == "openvino"
    if not portable and Version(manifest.library_version) != Version(library_version):
        return f"it was built by {manifest.library} {manifest.library_version}; this machine has {library_version}"
    if sm and manifest.backend == "tensorrt-rtx" and not rtx_runs_on(sm):
        return f"TensorRT-RTX does not run on GPUs of architecture {sm}, plain TensorRT does (--backend tensorrt)"
    if sm and manifest.targets and sm not in manifest.targets:
        return f"it was built for {', '.join(manifest.targets)}, this GPU is {sm}"
    if device and manifest.backend == "tensorrt" and manifest.device != device:
        return f"it was built on {manifest.device}, this is {device}"
    return ""
