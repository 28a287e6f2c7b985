"""The backend and precision that ``auto`` selects on this machine, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec

from fusepipe.core import machine
from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.backends.cuda.driver import DriverReport, ask_driver, select_gpu
from fusepipe.engines.backends.cuda.packages import install_command, installed_version, too_new_for_driver
from fusepipe.engines.backends.tensorrt.library import MODULES

_GPU_BACKENDS = ("tensorrt", "tensorrt-rtx")


@dataclass(frozen=True, slots=True)
class Choice:
    """A selected name and the reason."""

    name: str
    reason: str


def package_installed(backend: str) -> bool:
    """Whether the package of a TensorRT backend is installed; it is not imported."""
    return find_spec(MODULES[backend]) is not None


def cuda_installed() -> bool:
    """Whether cuda-bindings or PyCUDA is installed; they are not imported."""
    return installed_version("cuda-bindings") is not None or find_spec("pycuda") is not None


def torch_runs() -> bool:
    """Whether PyTorch and onnx are installed, and PyTorch finds a GPU; imports PyTorch."""
    if find_spec("torch") is None or find_spec("onnx") is None:
        return False
    from fusepipe.engines.backends.torch.captured import cuda_available

    return cuda_available()


def misfit_of_packages(backend: str, gpu: Gpu) -> str:
    """Why the installed packages of a TensorRT backend cannot run on this GPU; empty if they can."""
    if backend == "tensorrt-rtx" and not machine.rtx_runs_on(gpu.sm):
        how = install_command("tensorrt", gpu.driver_number)
        return f"TensorRT-RTX does not run on {gpu.name} ({gpu.sm}): {how} for TensorRT, which does"
    if not cuda_installed():
        return f"neither cuda-bindings nor pycuda is installed: {install_command(backend, gpu.driver_number)}"
    return too_new_for_driver(backend, gpu.driver_number)


def gpu_backend(gpu: Gpu | None, why_no_gpu: str) -> Choice:
    """The backend for the GPU, or ``openvino`` with the reason why not."""
    if gpu is None:
        return Choice("openvino", f"auto: {why_no_gpu}")
    reasons = []
    for backend in _GPU_BACKENDS:
        if not package_installed(backend):
            continue
        why = misfit_of_packages(backend, gpu)
        if not why:
            return Choice(backend, f"auto: {gpu.name} with {MODULES[backend]}")
        reasons.append(why)
    if torch_runs():
        why = "; ".join(reasons) or "TensorRT is not installed"
        return Choice("torch", f"auto: {gpu.name} with PyTorch ({why})")
    how = install_command("tensorrt-rtx" if machine.rtx_runs_on(gpu.sm) else "tensorrt", gpu.driver_number)
    missing = f"neither tensorrt nor tensorrt_rtx is installed for {gpu.name}: {how}"
    return Choice("openvino", f"auto: {'; '.join(reasons) or missing}")


@cache
def driver() -> DriverReport:
    """The driver, asked once per process."""
    return ask_driver()


def gpu_here(device: str | None = None) -> tuple[Gpu | None, str]:
    """(a GPU of this machine, ""), or (``None``, the reason).

    ``device`` is an index or UUID, the first GPU if ``None``. Raises :class:`EngineError` if there is no such device.
    """
    report = driver()
    if not report.gpus:
        if device is not None:
            raise EngineError(f"device {device!r}: {report.problem}")
        return None, report.problem
    gpu = report.gpus[0] if device is None else select_gpu(report.gpus, device)
    return replace(gpu, runtime_cuda=installed_version("cuda-bindings") or ""), ""


def fast_int8(processor: machine.Processor | None = None) -> str:
    """The CPU feature that makes int8 faster than floats (AMX, VNNI or i8mm); empty without one."""
    features = (processor or machine.processor()).features
    return next((name for name in ("AMX", "VNNI", "i8mm") if features.get(name)), "")


def cpu_precision() -> Choice:
    """The fastest precision on this CPU: int8 with AMX, VNNI or i8mm, else native bf16, else fp32."""
    from fusepipe.engines.backends.openvino.network import cpu_capabilities

    feature = fast_int8()
    if feature:
        return Choice("int8", f"auto: int8, fast on this CPU with {feature}")
    if "BF16" in cpu_capabilities():
        return Choice("bf16", "auto: bf16, native on this CPU")
    return Choice("fp32", "auto: fp32, this CPU has neither VNNI, AMX nor bf16")
