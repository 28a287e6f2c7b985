"""What NVIDIA's driver reports: the CUDA version that it supports and its GPUs, asked of ``libcuda.so.1`` itself.

No package is needed, so that a driver which is too old for the installed packages is still identified. No context is
created, and no process is started (``nvidia-smi`` is absent in many containers). The calls and constants are those of
the CUDA driver API.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import Gpu, cuda_version

_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_*
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class DriverReport:
    """The driver: its CUDA version (12040 is 12.4, 0 without a driver) and GPUs in CUDA's order.

    ``problem`` is the reason if there are none.
    """

    cuda: int
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""


def ask_driver(load: Callable[[], Any] = lambda: ctypes.CDLL("libcuda.so.1")) -> DriverReport:
    """The driver of this machine; never raises for a missing or failing driver."""
    try:
        library = load()
    except OSError:
        return DriverReport(0, problem="no NVIDIA GPU found: NVIDIA's driver is not installed (no libcuda.so.1)")
    version = ctypes.c_int(0)
    try:
        _call(library, "cuDriverGetVersion", ctypes.byref(version))
        _call(library, "cuInit", 0)
        count = ctypes.c_int(0)
        _call(library, "cuDeviceGetCount", ctypes.byref(count))
        gpus = tuple(_gpu(library, index, version.value) for index in range(count.value))
    except EngineError as error:
        return DriverReport(version.value, problem=f"no NVIDIA GPU found: {error}")
    if not gpus:
        return DriverReport(version.value, problem="no NVIDIA GPU found: the driver lists none")
    return DriverReport(version.value, gpus)


def _call(library: Any, name: str, *arguments: object) -> None:
    """Calls a function of the driver; raises :class:`EngineError` with CUDA's text for its error code."""
    code = getattr(library, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        library.cuGetErrorString(code, ctypes.byref(text))
        said = text.value.decode(errors="replace") if text.value else "unknown error"
        raise EngineError(f"{name} of NVIDIA's driver: {said} ({code})")


def _gpu(library: Any, index: int, version: int) -> Gpu:
    device, name, identity = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES), (ctypes.c_ubyte * 16)()
    _call(library, "cuDeviceGet", ctypes.byref(device), index)
    _call(library, "cuDeviceGetName", name, _NAME_BYTES, device)
    _call(library, "cuDeviceGetUuid_v2", ctypes.byref(identity), device)  # of the MIG instance, if it is one
    capability = []
    for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
        value = ctypes.c_int()
        _call(library, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return Gpu(
        name=name.value.decode(errors="replace"),
        sm="SM{}{}".format(*capability),
        driver_cuda=cuda_version(version),
        runtime_cuda="",
        index=index,
        uuid=f"GPU-{UUID(bytes=bytes(identity))}",
    )


def select_gpu(gpus: tuple[Gpu, ...], device: str) -> Gpu:
    """The GPU with an index (``0``) or UUID (``GPU-5a3f...``, as ``nvidia-smi -L`` prints; its beginning suffices).

    Raises :class:`EngineError` that lists the GPUs if there is none.
    """
    wanted = device.strip().lower().removeprefix("gpu-").removeprefix("mig-")
    if wanted.isdecimal() and len(wanted) < 4:
        found = [gpu for gpu in gpus if gpu.index == int(wanted)]
    else:
        found = [gpu for gpu in gpus if gpu.uuid.lower().removeprefix("gpu-").startswith(wanted)]
    if len(found) != 1:
        listed = ", ".join(f"{gpu.index} ({gpu.name}, {gpu.uuid})" for gpu in gpus)
        what = "no GPU" if not found else f"{len(found)} GPUs"
        raise EngineError(f"{what} with the index or UUID {device!r}; this machine has {listed}")
    return found[0]
