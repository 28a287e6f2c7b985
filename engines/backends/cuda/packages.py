"""Which CUDA the installed packages need, and what to install where the driver is older.

Packages for CUDA 12 run on drivers for CUDA 12.0 and later (r525), those for CUDA 13 on 13.0 and later (r580): NVIDIA's
minor-version compatibility. Read from the metadata of the distributions; nothing is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import metadata

from fusepipe.engines.backends.cuda.api import cuda_version

# backend -> distributions of its library, by CUDA version; the extra of fusepipe for each
_TENSORRT = {13: ("tensorrt", "tensorrt-cu13"), 12: ("tensorrt-cu12",)}
_RTX = {13: ("tensorrt-rtx", "tensorrt-rtx-cu13"), 12: ("tensorrt-rtx-cu12",)}
DISTRIBUTIONS: Mapping[str, Mapping[int, tuple[str, ...]]] = {"tensorrt": _TENSORRT, "tensorrt-rtx": _RTX}
_DRIVERS = {12: "525", 13: "580"}  # CUDA -> the first driver branch for it
OLDEST = min(_DRIVERS)

Installed = Callable[[str], str | None]


def installed_version(distribution: str) -> str | None:
    """The version of a distribution, ``None`` if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def install_command(backend: str, driver_cuda: int) -> str:
    """The command that installs the packages of a backend for a driver of this CUDA version (12040 is 12.4)."""
    if driver_cuda and driver_cuda // 1000 < max(_DRIVERS):
        return f"pip install 'fusepipe[{backend}-cu12,cuda12]'"
    return f"pip install 'fusepipe[{backend},cuda]'"


def too_new_for_driver(backend: str, driver_cuda: int, installed: Installed = installed_version) -> str:
    """Why the installed packages of a backend do not run with a driver of this CUDA version; empty if they do.

    Packages that are not found are not judged: on Jetson, TensorRT does not come from pip.
    """
    needed = {name: cuda for cuda, names in DISTRIBUTIONS[backend].items() for name in names}
    packages = [(name, version, cuda) for name, cuda in needed.items() if (version := installed(name)) is not None]
    layer = installed("cuda-bindings")
    number = re.match(r"\d+", layer or "")
    if layer is not None and number is not None:
        packages.append(("cuda-bindings", layer, int(number[0])))
    newer = [(name, version, cuda) for name, version, cuda in packages if cuda > driver_cuda // 1000]
    if not newer or not driver_cuda:
        return ""
    listed = " and ".join(f"{name} {version}" for name, version, _ in newer)
    most = max(cuda for _, _, cuda in newer)
    update = f"update the driver to {_DRIVERS.get(most, 'the latest')} or later"
    verb = "needs" if len(newer) == 1 else "need"
    why = f"NVIDIA's driver supports CUDA {cuda_version(driver_cuda)}, and {listed} {verb} CUDA {most}"
    if driver_cuda // 1000 < OLDEST:
        return f"{why}: {update}"
    other = [part for name, _, _ in newer if name != "cuda-bindings" for part in _parts(name)]
    remove = f"pip uninstall -y {' '.join(other)} && " if other else ""  # both have the module of the same name
    return f"{why}: {update}, or {remove}{install_command(backend, driver_cuda)}"


def _parts(name: str) -> tuple[str, ...]:
    base = name if name[-4:-2] == "cu" or "-cu" in name else f"{name}-cu13"
    return tuple(dict.fromkeys((name, base, f"{base}-bindings", f"{base}-libs")))
