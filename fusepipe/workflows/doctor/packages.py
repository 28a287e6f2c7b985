"""What is installed, by the metadata of the distributions: nothing is imported to find out.

Importing optional packages would take seconds and prove little; the required ones are imported and
used by :mod:`fusepipe.workflows.doctor.diagnosis`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from fusepipe.core.models import BACKENDS
from fusepipe.workflows.doctor.check import Check

CV2_WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
CV2_WANTED = "opencv-python-headless"


@dataclass(frozen=True, slots=True)
class Optional:
    """A package that only some uses need.

    ``distributions`` are those that bring ``module``. ``backends`` are the names in the registry that
    use it, empty where something else does: an older fusepipe may not have them yet, and then says so.
    """

    module: str
    distributions: tuple[str, ...]
    purpose: str
    install: str
    backends: tuple[str, ...] = ()


OPTIONAL = (
    Optional("torch", ("torch",), "training", "pip install 'fusepipe[train]'"),
    Optional("onnx", ("onnx",), "building engines", "pip install 'fusepipe[build]'"),
    Optional("aiortc", ("aiortc",), "video on the preview page", "pip install 'fusepipe[webrtc]'"),
    Optional(
        "tensorrt",
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "engines for NVIDIA GPUs",
        "pip install 'fusepipe[tensorrt]'",
        ("tensorrt",),
    ),
    Optional(
        "tensorrt_rtx",
        ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
        "portable engines for NVIDIA RTX GPUs",
        "pip install 'fusepipe[tensorrt-rtx]'",
        ("tensorrt-rtx",),
    ),
    Optional(
        "pycuda", ("pycuda",), "TensorRT's memory", "pip install 'fusepipe[pycuda]'", ("tensorrt", "tensorrt-rtx")
    ),
    Optional(
        "cuda",
        ("cuda-bindings", "cuda-python"),
        "TensorRT's memory",
        "pip install 'fusepipe[cuda]'",
        ("tensorrt", "tensorrt-rtx"),
    ),
)


def installed_versions(path: Sequence[str] | None = None) -> dict[str, str]:
    """Version by normalised name of all distributions on ``path`` (default: ``sys.path``)."""
    found = metadata.distributions() if path is None else metadata.distributions(path=list(path))
    versions: dict[str, str] = {}
    for distribution in found:
        if "Name" in distribution.metadata:  # not where a folder is left of a broken removal
            versions.setdefault(normalised(distribution.metadata["Name"]), distribution.version)
    return versions


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(distribution: str) -> dict[str, str]:
    """Name -> lowest version of what ``distribution`` always needs, extras left out."""
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in lines:
        requirement, _, marker = line.partition(";")
        if "extra" not in marker:
            match = re.match(r"\s*([\w.-]+)[^>]*(?:>=\s*([\w.]+))?", requirement)
            if match:
                found[normalised(match[1])] = match[2] or "0"
    return found


def version_tuple(version: str) -> tuple[int, ...]:
    """The release numbers of a version, for comparison: ``4.10.0.84`` -> (4, 10, 0, 84)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def check_dependencies(needed: Mapping[str, str], installed: Mapping[str, str]) -> list[Check]:
    """Each package that fusepipe always needs: there, and not older than it has to be."""
    if not needed:
        fix = "pip install fusepipe"
        return [Check("packages", "fusepipe", "problem", "is not installed, only its files are there", fix)]
    checks = []
    for name, lowest in needed.items():
        have = installed.get(name)
        other = next((wheel for wheel in CV2_WHEELS if wheel in installed), None) if name == CV2_WANTED else None
        fix = f"pip install '{name}>={lowest}'"
        if have is not None:
            fine = version_tuple(have) >= version_tuple(lowest)
            text = have if fine else f"{have} is older than {lowest}"
            checks.append(Check("packages", name, "ok" if fine else "problem", text, "" if fine else fix))
        elif other is not None:
            text = f"not installed; cv2 comes from {other} {installed[other]}"
            checks.append(Check("packages", name, "note", text, f"pip uninstall -y {other} && {fix}"))
        else:
            checks.append(Check("packages", name, "problem", "not installed", fix))
    return checks


def check_cv2_wheels(installed: Mapping[str, str]) -> Check:
    """Whether one wheel owns the folder ``cv2``: two overwrite each other's files, whoever came last."""
    found = [f"{wheel} {installed[wheel]}" for wheel in CV2_WHEELS if wheel in installed]
    if len(found) < 2:
        return Check("packages", "cv2 wheels", "ok", f"one: {found[0]}" if found else "none")
    names = " ".join(item.split()[0] for item in found)
    return Check(
        "packages",
        "cv2 wheels",
        "problem",
        f"{' and '.join(found)} both own the folder cv2 and overwrite each other's files",
        f"pip uninstall -y {names} && pip install {CV2_WANTED}",
    )


def check_optional(
    installed: Mapping[str, str],
    find_spec: Callable[[str], object],
    gpus: Sequence[str],
    backends: Iterable[str] = tuple(BACKENDS),
) -> list[Check]:
    """Packages that only some uses need; absent ones are notes with the line that installs them."""
    checks = [Check("optional", "NVIDIA GPU", "ok" if gpus else "note", "; ".join(gpus) or "none found")]
    for package in OPTIONAL:
        name = next((name for name in package.distributions if name in installed), None)
        label = package.distributions[0] if package.module == "cuda" else package.module
        purpose = package.purpose
        if package.backends and not set(package.backends) & set(backends):
            purpose += ", which this version does not use yet"
        if name is None:
            checks.append(Check("optional", label, "note", f"not installed (for {purpose})", package.install))
        elif find_spec(package.module) is None:
            text = f"{name} {installed[name]} is installed, but has no module {package.module}"
            checks.append(Check("optional", label, "note", text, f"{package.install} --force-reinstall"))
        else:
            checks.append(Check("optional", label, "ok", f"{name} {installed[name]} (for {purpose})"))
    return checks
