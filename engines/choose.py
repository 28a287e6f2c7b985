"""Which backend and precision ``auto`` means on this machine, with the reason in words."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from fusepipe.core import machine
from fusepipe.engines.backends.cuda.api import Gpu, find_gpu
from fusepipe.engines.backends.tensorrt.library import MODULES


@dataclass(frozen=True, slots=True)
class Choice:
    """A name and why it was taken."""

    name: str
    reason: str


def installed(backend: str) -> bool:
    """Whether the package of a TensorRT flavour is there; it is not imported."""
    return find_spec(MODULES[backend]) is not None


def gpu_backend(gpu: Gpu | None, why_no_gpu: str) -> Choice:
    """What would run on the GPU, or ``openvino`` and why not."""
    if gpu is None:
        return Choice("openvino", "auto: no NVIDIA GPU answers")
    if installed("tensorrt"):
        return Choice("tensorrt", f"auto: {gpu.name} and tensorrt are there")
    if installed("tensorrt-rtx"):
        if machine.rtx_runs_on(gpu.sm):
            return Choice("tensorrt-rtx", f"auto: {gpu.name} and tensorrt_rtx are there")
        how = "pip install 'fusepipe[tensorrt]' for TensorRT, which does"
        return Choice("openvino", f"auto: TensorRT-RTX does not run on {gpu.name} ({gpu.sm}): {how}")
    return Choice("openvino", f"auto: {gpu.name} is there, but neither tensorrt nor tensorrt_rtx is installed")


def gpu_here() -> tuple[Gpu | None, str]:
    """The GPU, asked only where NVIDIA's driver answers: CUDA's start takes a moment."""
    if not machine.nvidia_gpus():
        return None, "NVIDIA's driver does not answer (nvidia-smi)"
    return find_gpu()


def fast_int8(processor: machine.Processor | None = None) -> str:
    """The feature that makes int8 faster than floats on this CPU, empty where there is none."""
    features = (processor or machine.processor()).features
    return next((name for name in ("AMX", "VNNI", "i8mm") if features.get(name)), "")


def cpu_precision() -> Choice:
    """What is fastest on this CPU: int8 with VNNI or AMX, else bf16 where it is native, else fp32."""
    from fusepipe.engines.backends.openvino_graph import cpu_capabilities

    feature = fast_int8()
    if feature:
        return Choice("int8", f"auto: int8, which {feature} makes fast on this CPU")
    if "BF16" in cpu_capabilities():
        return Choice("bf16", "auto: bf16, native on this CPU")
    return Choice("fp32", "auto: fp32, as this CPU has neither VNNI, AMX nor bf16")
