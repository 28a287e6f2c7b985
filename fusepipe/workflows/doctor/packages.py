"""Doctor checks of installed packages, by the metadata of their distributions; nothing is imported.

Importing optional packages takes seconds and proves little; :mod:`fusepipe.workflows.doctor.diagnosis` imports and
uses the required ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from fusepipe.core.models import BACKENDS
from fusepipe.workflows.doctor.doctor_check import DoctorCheck

CV2_WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
CV2_WANTED = "opencv-python-headless"


@dataclass(frozen=True, slots=True)
class OptionalPackage:
    """A package that only some features need.

    ``distributions``: those that provide ``module``. ``backends``: the backends that use it, empty where another
    feature does; a backend that this version does not have is reported as such.
    """

    module: str
    distributions: tuple[str, ...]
    purpose: str
    install: str
    backends: tuple[str, ...] = ()


OPTIONAL = (
    OptionalPackage("torch", ("torch",), "training", "pip install 'fusepipe[train]'"),
    OptionalPackage("onnx", ("onnx",), "building engines", "pip install 'fusepipe[build]'"),
    OptionalPackage("aiortc", ("aiortc",), "video on the preview page", "pip install 'fusepipe[webrtc]'"),
    OptionalPackage(
        "tensorrt",
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "engines for NVIDIA GPUs",
        "pip install 'fusepipe[tensorrt]'",
        ("tensorrt",),
    ),
    OptionalPackage(
        "tensorrt_rtx",
        ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
        "portable engines for NVIDIA RTX GPUs",
        "pip install 'fusepipe[tensorrt-rtx]'",
        ("tensorrt-rtx",),
    ),
    OptionalPackage(
        "pycuda", ("pycuda",), "TensorRT's memory", "pip install 'fusepipe[pycuda]'", ("tensorrt", "tensorrt-rtx")
    ),
    OptionalPackage(
        "cuda",
        ("cuda-bindings", "cuda-python"),
        "TensorRT's memory",
        "pip install 'fusepipe[cuda]'",
        ("tensorrt", "tensorrt-rtx"),
    ),
)


def installed_versions(path: Sequence[str] | None = None) -> dict[str, str]:
    """Version by canonical name (PEP 503) of all distributions on ``path`` (default: ``sys.path``)."""
    found = metadata.distributions() if path is None else metadata.distributions(path=list(path))
    versions: dict[str, str] = {}
    for distribution in found:
        if "Name" in distribution.metadata:  # missing in the remains of a failed removal
            versions.setdefault(canonicalize_name(distribution.metadata["Name"]), distribution.version)
    return versions


def requirements(distribution: str) -> dict[str, str]:
    """Name -> lowest version of the requirements of ``distribution``, without extras."""
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return {}
    parsed = [Requirement(line) for line in lines]
    return {
        canonicalize_name(requirement.name): next((s.version for s in requirement.specifier if s.operator == ">="), "0")
        for requirement in parsed
        if requirement.marker is None or "extra" not in str(requirement.marker)
    }


def version_problem(have: str, lowest: str) -> str:
    """``1.0 is older than 2.0`` where that is so, else an empty text."""
    try:
        return f"{have} is older than {lowest}" if Version(have) < Version(lowest) else ""
    except InvalidVersion:
        return f"{have} is not a valid version"


def check_dependencies(needed: Mapping[str, str], installed: Mapping[str, str]) -> list[DoctorCheck]:
    """Each required package: installed, and of a version that the specifier accepts."""
    if not needed:
        fix = "pip install fusepipe"
        return [DoctorCheck("packages", "fusepipe", "problem", "not installed: only its source files were found", fix)]
    checks = []
    for name, lowest in needed.items():
        have = installed.get(name)
        other = next((wheel for wheel in CV2_WHEELS if wheel in installed), None) if name == CV2_WANTED else None
        fix = f"pip install '{name}>={lowest}'"
        if have is not None:
            old = version_problem(have, lowest)
            checks.append(DoctorCheck("packages", name, "problem" if old else "ok", old or have, fix if old else ""))
        elif other is not None:
            text = f"not installed; cv2 comes from {other} {installed[other]}"
            checks.append(DoctorCheck("packages", name, "note", text, f"pip uninstall -y {other} && {fix}"))
        else:
            checks.append(DoctorCheck("packages", name, "problem", "not installed", fix))
    return checks


def check_cv2_wheels(installed: Mapping[str, str]) -> DoctorCheck:
    """Whether only one wheel provides ``cv2``: two overwrite each other's files."""
    found = [f"{wheel} {installed[wheel]}" for wheel in CV2_WHEELS if wheel in installed]
    if len(found) < 2:
        return DoctorCheck("packages", "cv2 wheels", "ok", f"one: {found[0]}" if found else "none")
    names = " ".join(item.split()[0] for item in found)
    return DoctorCheck(
        "packages",
        "cv2 wheels",
        "problem",
        f"{' and '.join(found)} both install cv2 and overwrite each other's files",
        f"pip uninstall -y {names} && pip install {CV2_WANTED}",
    )


def check_optional(
    installed: Mapping[str, str],
    find_spec: Callable[[str], object],
    gpus: Sequence[str],
    backends: Iterable[str] = tuple(BACKENDS),
) -> list[DoctorCheck]:
    """Packages that only some features need; missing ones are notes with the command that installs them."""
    checks = [DoctorCheck("optional", "NVIDIA GPU", "ok" if gpus else "note", "; ".join(gpus) or "none found")]
    for package in OPTIONAL:
        name = next((name for name in package.distributions if name in installed), None)
        label = package.distributions[0] if package.module == "cuda" else package.module
        purpose = package.purpose
        if package.backends and not set(package.backends) & set(backends):
            purpose += ", which this version does not use yet"
        if name is None:
            checks.append(DoctorCheck("optional", label, "note", f"not installed (for {purpose})", package.install))
        elif find_spec(package.module) is None:
            text = f"{name} {installed[name]} is installed, but has no module {package.module}"
            checks.append(DoctorCheck("optional", label, "note", text, f"{package.install} --force-reinstall"))
        else:
            checks.append(DoctorCheck("optional", label, "ok", f"{name} {installed[name]} (for {purpose})"))
    return checks
