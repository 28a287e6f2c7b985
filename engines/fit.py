"""Whether an engine fits this machine: the same weights, library version and GPU as it was built for."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.version import Version

from fusepipe.core.machine import rtx_runs_on
from fusepipe.engines import choose
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.backends.tensorrt.library import MODULES
from fusepipe.engines.manifest import Manifest

TURING = "SM75"
"""The architecture that TensorRT-RTX builds for only if it is named: by default it targets SM80 and later."""
_FIRST_WITH_BF16 = 80


def library_version(backend: str) -> tuple[str, str]:
    """(name, version) of the library that compiles for a backend; raises :class:`EngineError` if not installed."""
    if backend == "openvino":
        from fusepipe.engines.backends.openvino.network import openvino_version

        return "openvino", openvino_version()
    from fusepipe.engines.backends.tensorrt.library import load_library

    return MODULES[backend], load_library(backend).version


def runs_on(backend: str, gpu: Gpu | None) -> bool:
    """Whether engines of a backend run on this GPU with the installed packages."""
    return gpu is not None and backend in MODULES and not choose.misfit_of_packages(backend, gpu)


def why_misfit(manifest: Manifest, onnx_sha256: str | None, device: str | None = None) -> str:
    """Why an engine does not run on this machine; empty if it does.

    ``onnx_sha256`` is the current network of that name, ``None`` if unknown; ``device`` selects the GPU. Raises
    :class:`EngineError` with the command that installs the engine's library where that is missing.
    """
    _, version = library_version(manifest.backend)
    gpu = None if manifest.backend == "openvino" else choose.gpu_here(device)[0]
    why = misfit(manifest, library_version=version, onnx_sha256=onnx_sha256, gpu=gpu)
    return why or (choose.misfit_of_packages(manifest.backend, gpu) if gpu is not None else "")


def misfit(manifest: Manifest, *, library_version: str, onnx_sha256: str | None, gpu: Gpu | None = None) -> str:
    """:func:`why_misfit` for a given library and GPU, whatever packages are installed; ``None`` without a GPU."""
    if onnx_sha256 is not None and manifest.onnx_sha256 != onnx_sha256:
        return f"it was built from other weights ({manifest.onnx_sha256[:12]}, now {onnx_sha256[:12]})"
    if why := _version_misfit(manifest, Version(library_version)):
        return why
    if gpu is None:
        return ""
    if manifest.backend == "tensorrt-rtx":
        return _rtx_misfit(manifest, gpu.sm)
    if manifest.backend == "tensorrt" and manifest.device != gpu.name:
        return f"it was built on {manifest.device}, this is {gpu.name}"
    return ""


def _version_misfit(manifest: Manifest, here: Version) -> str:
    if manifest.backend == "openvino":  # its plan is the graph
        return ""
    built = Version(manifest.library_version)
    if built == here or (manifest.options.get("version_compatible") and here > built):
        return ""
    later = "; it runs with later versions only" if manifest.options.get("version_compatible") else ""
    return f"it was built by {manifest.library} {manifest.library_version}; this machine has {here}{later}"


def _rtx_misfit(manifest: Manifest, sm: str) -> str:
    if not rtx_runs_on(sm):
        return f"TensorRT-RTX does not run on GPUs of architecture {sm}, plain TensorRT does (--backend tensorrt)"
    if manifest.targets and sm not in manifest.targets:
        return f"it was built for {', '.join(manifest.targets)}, this GPU is {sm}"
    if not manifest.targets and sm == TURING:
        return f"it was built for GPUs of architecture SM80 and later, this GPU is {sm} (--target-sm {sm})"
    return unsupported_precision(manifest.achieved_precision, (sm,))


def unsupported_precision(precision: str, architectures: Iterable[str]) -> str:
    """Why a precision is not available on one of these GPU architectures; empty if it is.

    Turing's tensor cores compute in fp16 and int8, not in bf16 (NVIDIA's support matrices).
    """
    if precision == "bf16" and any(int(name.removeprefix("SM")) < _FIRST_WITH_BF16 for name in architectures):
        return "GPUs of architecture SM75 do not compute in bf16: use fp16"
    return ""
