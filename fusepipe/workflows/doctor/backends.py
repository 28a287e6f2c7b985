"""What each backend can do on this machine and what it lacks: the part of ``fusepipe doctor`` about engines."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from fusepipe.core.machine import rtx_runs_on
from fusepipe.workflows.doctor.check import Check

# backend -> (its package, the extras that bring it and what it needs beside)
_GPU = {"tensorrt": ("tensorrt", "tensorrt,cuda"), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt-rtx,cuda")}
_CUDA = ("cuda.bindings", "pycuda")

FindSpec = Callable[[str], object]


def check_backends(find_spec: FindSpec, gpus: Sequence[str], gpu: str, why_no_gpu: str) -> list[Check]:
    """A line for each backend: ok where it runs, a note with what is missing and the line that installs it.

    ``gpus`` is what the driver names, ``gpu`` what CUDA opened (name and architecture), empty with the reason.
    """
    checks = [Check("engines", "openvino", "ok", "runs on this CPU; fp32, bf16 where native, int8")]
    checks += [_gpu_backend(backend, find_spec, gpus, gpu, why_no_gpu) for backend in _GPU]
    missing = [name for name in ("torch", "onnx") if find_spec(name) is None]
    if missing:
        text = f"not available: no {' and no '.join(missing)} (the fp32 reference)"
        checks.append(Check("engines", "torch", "note", text, "pip install 'fusepipe[train]'"))
    else:
        checks.append(Check("engines", "torch", "ok", "runs on this CPU; the fp32 reference"))
    absent = [name for name in ("onnx", "ml_dtypes") if find_spec(name) is None]
    if absent:
        text = f"build-engine is not available: no {' and no '.join(absent)}"
        checks.append(Check("engines", "building", "note", text, "pip install 'fusepipe[build]'"))
    else:
        builders = [name for name, (module, _) in _GPU.items() if find_spec(module) is not None]
        able = ["openvino", *(name for name in builders if name == "tensorrt-rtx" or gpu)]
        checks.append(Check("engines", "building", "ok", f"build-engine builds for {', '.join(able)}"))
    return checks


def _there(find_spec: FindSpec, name: str) -> bool:
    """Of ``cuda.bindings`` too, where another package may have brought ``cuda``, or none has."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _gpu_backend(backend: str, find_spec: FindSpec, gpus: Sequence[str], gpu: str, why_no_gpu: str) -> Check:
    module, extras = _GPU[backend]
    missing = [] if find_spec(module) is not None else [f"the package {module}"]
    if not any(_there(find_spec, name) for name in _CUDA):
        missing.append("cuda-bindings or pycuda")
    fix = f"pip install 'fusepipe[{extras}]'" if missing else ""
    if not gpus:
        missing.append("an NVIDIA GPU whose driver answers (nvidia-smi)")
        fix = fix or "needed on machines with an NVIDIA GPU only"
    elif not gpu and not missing:
        missing.append(f"CUDA ({why_no_gpu})")
        fix = "see NVIDIA's driver: nvidia-smi"
    architecture = re.search(r"\bSM\d+", gpu)
    if not missing and backend == "tensorrt-rtx" and architecture and not rtx_runs_on(architecture[0]):
        why = f"does not run on {gpu}: not on GPUs of this architecture"
        return Check("engines", backend, "note", why, f"pip install 'fusepipe[{_GPU['tensorrt'][1]}]'")
    if missing:
        return Check("engines", backend, "note", f"does not run here; missing: {', '.join(missing)}", fix)
    return Check("engines", backend, "ok", f"runs on {gpu}")
