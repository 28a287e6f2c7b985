"""The backend and precision that ``auto`` selects on this machine, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from fusepipe.core import machine
from fusepipe.engines.backends.cuda.api import Gpu, find_gpu
from fusepipe.engines.backends.tensorrt.library import MODULES


@dataclass(frozen=True, slots=True)
class Choice:
    """A selected name and the reason."""

    name: str
    reason: str


def package_installed(backend: str) -> bool:
    """Whether the package of a TensorRT backend is installed; it is not imported."""
    return find_spec(MODULES[backend]) is not None


def gpu_backend(gpu: Gpu | None, why_no_gpu: str) -> Choice:
    """The backend for the GPU, or ``openvino`` with the reason why not."""
    if gpu is None:
        return Choice("openvino", "auto: no NVIDIA GPU found")
    if package_installed("tensorrt"):
        return Choice("tensorrt", f"auto: {gpu.name} with tensorrt")
    if package_installed("tensorrt-rtx"):
        if machine.rtx_runs_on(gpu.sm):
            return Choice("tensorrt-rtx", f"auto: {gpu.name} with tensorrt_rtx")
        how = "pip install 'fusepipe[tensorrt]' for TensorRT, which does"
        return Choice("openvino", f"auto: TensorRT-RTX does not run on {gpu.name} ({gpu.sm}): {how}")
    return Choice("openvino", f"auto: neither tensorrt nor tensorrt_rtx is installed for {gpu.name}")


def gpu_here() -> tuple[Gpu | None, str]:
    """(the GPU of this machine, ""), or (``None``, the reason); CUDA is only started if NVIDIA's driver responds."""
    if not machine.nvidia_gpus():
        return None, "NVIDIA's driver does not respond (nvidia-smi)"
    return find_gpu()


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
