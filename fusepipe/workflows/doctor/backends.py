"""Doctor checks of the backends: what each can run on this machine and what it needs."""

from __future__ import annotations

from collections.abc import Callable

from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.backends.cuda.packages import install_command
from fusepipe.workflows.doctor.doctor_check import DoctorCheck

# backend -> (its package, the extras that install it with its dependencies)
_GPU = {"tensorrt": ("tensorrt", "tensorrt,cuda"), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt-rtx,cuda")}
_CUDA = ("cuda.bindings", "pycuda")

FindSpec = Callable[[str], object]
Misfit = Callable[[str, Gpu], str]


def check_backends(find_spec: FindSpec, gpu: Gpu | None, why_no_gpu: str, misfit: Misfit) -> list[DoctorCheck]:
    """One check per backend: ok where it runs, else a note with what is missing and the command that installs it.

    ``gpu`` is the driver's first, ``None`` for the reason ``why_no_gpu``; ``misfit`` is why the installed packages of
    a backend do not run on it, empty if they do.
    """
    checks = [DoctorCheck("engines", "openvino", "ok", "runs on this CPU; fp32, bf16 where native, int8")]
    checks += [_gpu_backend(backend, find_spec, gpu, why_no_gpu, misfit) for backend in _GPU]
    missing = [name for name in ("torch", "onnx") if find_spec(name) is None]
    if missing:
        text = f"not available: no {' and no '.join(missing)} (the fp32 reference)"
        checks.append(DoctorCheck("engines", "torch", "note", text, "pip install 'fusepipe[train]'"))
    else:
        checks.append(DoctorCheck("engines", "torch", "ok", "runs on this CPU; the fp32 reference"))
    absent = [name for name in ("onnx", "ml_dtypes") if find_spec(name) is None]
    if absent:
        text = f"build-engine is not available: no {' and no '.join(absent)}"
        checks.append(DoctorCheck("engines", "building", "note", text, "pip install 'fusepipe[build]'"))
    else:
        builders = [name for name, (module, _) in _GPU.items() if find_spec(module) is not None]
        able = ["openvino", *(name for name in builders if name == "tensorrt-rtx" or gpu)]
        checks.append(DoctorCheck("engines", "building", "ok", f"build-engine builds for {', '.join(able)}"))
    return checks


def _importable(find_spec: FindSpec, name: str) -> bool:
    """Also for ``cuda.bindings`` where the package ``cuda`` itself is missing."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _gpu_backend(backend: str, find_spec: FindSpec, gpu: Gpu | None, why_no_gpu: str, misfit: Misfit) -> DoctorCheck:
    module, extras = _GPU[backend]
    missing = [] if find_spec(module) is not None else [f"the package {module}"]
    if not any(_importable(find_spec, name) for name in _CUDA):
        missing.append("cuda-bindings or pycuda")
    fix = f"pip install 'fusepipe[{extras}]'" if missing else ""
    if gpu is not None and missing:
        fix = install_command(backend, gpu.driver_number)
    if gpu is None:
        missing.append(f"an NVIDIA GPU ({why_no_gpu.removeprefix('no NVIDIA GPU found: ')})")
        fix = fix or "needed on machines with an NVIDIA GPU only"
    elif not missing and (why := misfit(backend, gpu)):
        reason, _, command = why.partition(": ")
        return DoctorCheck("engines", backend, "note", f"does not run here: {reason}", command)
    if missing or gpu is None:
        return DoctorCheck("engines", backend, "note", f"does not run here; missing: {', '.join(missing)}", fix)
    return DoctorCheck("engines", backend, "ok", f"runs on {gpu.name} ({gpu.sm}, CUDA {gpu.driver_cuda})")
