"""A double of the driver's library ``libcuda.so.1``: writes through the pointers that it gets, as the library does."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any
from uuid import UUID

Device = tuple[str, tuple[int, int], UUID]
RTX_4090: Device = ("NVIDIA GeForce RTX 4090", (8, 9), UUID("5a3f10c2-0000-4000-8000-000000000001"))
RTX_2080: Device = ("NVIDIA GeForce RTX 2080 Ti", (7, 5), UUID("5a3f10c2-0000-4000-8000-000000000002"))
H200: Device = ("NVIDIA H200", (9, 0), UUID("77aa0000-0000-4000-8000-000000000003"))


def _write(pointer: Any, value: int) -> None:
    ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = value


class FakeLibcuda:
    """A driver that supports CUDA ``version`` (12040 is 12.4); ``fails`` maps a function to its error code."""

    def __init__(self, version: int, devices: Sequence[Device] = (), fails: dict[str, int] | None = None) -> None:
        self._version, self._devices, self._fails = version, devices, fails or {}
        self.calls: list[str] = []
        self._initialised = False

    def _called(self, name: str, *, initialised: bool = True) -> int:
        self.calls.append(name)
        code = self._fails.get(name, 0)
        return code or (3 if initialised and not self._initialised else 0)  # CUDA_ERROR_NOT_INITIALIZED

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802 - CUDA's names
        _write(version, self._version)
        return self._called("cuDriverGetVersion", initialised=False)

    def cuInit(self, flags: int) -> int:  # noqa: N802
        self._initialised = not self._fails.get("cuInit")
        return self._called("cuInit", initialised=False)

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        _write(count, len(self._devices))
        return self._called("cuDeviceGetCount")

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        _write(device, index)
        return self._called("cuDeviceGet")

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = self._devices[device.value][0].encode()[: size - 1]
        return self._called("cuDeviceGetName")

    def cuDeviceGetUuid_v2(self, identity: Any, device: Any) -> int:  # noqa: N802
        ctypes.memmove(identity, self._devices[device.value][2].bytes, 16)
        return self._called("cuDeviceGetUuid_v2")

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        _write(value, dict(zip((75, 76), self._devices[device.value][1], strict=True))[attribute])
        return self._called("cuDeviceGetAttribute")

    def cuGetErrorString(self, code: int, text: Any) -> int:  # noqa: N802
        said = {100: b"no CUDA-capable device is detected", 999: b"unknown error", 34: b"the driver is a stub"}
        ctypes.cast(text, ctypes.POINTER(ctypes.c_char_p))[0] = said.get(code, b"initialization error")
        return 0
