"""All checks of ``fusepipe doctor``: what this machine and installation have, evaluated by pure functions.

A check reports what is broken and never raises for it. Optional packages are looked up without importing them:
importing PyTorch takes seconds and proves little.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from fusepipe.core import machine
from fusepipe.core.errors import FusepipeError
from fusepipe.core.folders import cache_folder
from fusepipe.core.version import __version__
from fusepipe.engines.backends.openvino.telemetry import without_telemetry
from fusepipe.engines.choose import driver, gpu_here, misfit_of_packages
from fusepipe.workflows.doctor.backends import check_backends
from fusepipe.workflows.doctor.doctor_check import DoctorCheck
from fusepipe.workflows.doctor.packages import (
    CV2_WANTED,
    CV2_WHEELS,
    check_cv2_wheels,
    check_dependencies,
    check_optional,
    installed_versions,
    requirements,
)

# exceptions of a broken binary package at import or first use
BROKEN = (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError, SystemError)

LOW_MEMORY_BYTES = 1 << 30
LOW_DISK_BYTES = 1 << 30

# (name, mode, needed) of codecs; optional ones are listed where present
CODECS = (
    ("h264", "r", True),
    ("libx264", "w", True),
    ("ffv1", "w", True),
    ("h264_nvenc", "w", False),
    ("hevc_nvenc", "w", False),
    ("h264_qsv", "w", False),
    ("h264_cuvid", "r", False),
)

# URL schemes of live cameras; the needed ones are in every wheel of PyAV
ENCODED_SIZE = (640, 480)  # of the clip that hardware encoders are tried with

NEEDED_PROTOCOLS = ("rtsp", "http", "udp")
PROTOCOLS = (*NEEDED_PROTOCOLS, "rtsps", "https", "rtmp", "srt")


def diagnose(folder: Path | None = None) -> list[DoctorCheck]:
    """All checks of this machine and installation; ``folder``: where free disk space is checked."""
    installed = installed_versions()
    return [
        *check_system(machine.processor(), machine.usable_cores(), machine.memory_bytes()),
        *check_dependencies(requirements("fusepipe"), installed),
        check_cv2_wheels(installed),
        check_cv2_import(),
        *check_video(),
        *check_openvino(),
        *check_model(),
        *check_optional(installed, importlib.util.find_spec, gpu_names()),
        *check_engines(),
        check_cache(),
        check_disk(folder or Path.cwd()),
    ]


# -- machine


def check_system(
    processor: machine.Processor, cores: float, memory: tuple[int, int] | None, python: str = platform.python_version()
) -> list[DoctorCheck]:
    """Versions, processor and memory."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    checks = [
        DoctorCheck("system", "fusepipe", "ok", __version__),
        DoctorCheck("system", "Python", "ok", f"{python} ({sys.executable})"),
        DoctorCheck("system", "system", "ok", system)
        if platform.system() == "Linux"
        else DoctorCheck("system", "system", "note", system, "fusepipe is developed and tested on Linux"),
        DoctorCheck("system", "CPU", "ok", f"{processor.name}, {cores:g} {'core' if cores == 1 else 'cores'}"),
    ]
    if processor.features:
        present = [name for name, has in processor.features.items() if has]
        absent = [name for name, has in processor.features.items() if not has]
        text = ", ".join(present) or "none that matter"
        checks.append(
            DoctorCheck("system", "CPU features", "ok", text + (f"; not: {', '.join(absent)}" if absent else ""))
        )
    else:
        checks.append(DoctorCheck("system", "CPU features", "note", "not known", "this system does not report it"))
    if memory is None:
        checks.append(DoctorCheck("system", "memory", "note", "not known", "this system does not report it"))
    else:
        total, available = memory
        text = f"{_gib(total)} GiB, {_gib(available)} GiB of it free"
        low = available < LOW_MEMORY_BYTES
        fix = "a run takes about half a GiB: close other programs" if low else ""
        checks.append(DoctorCheck("system", "memory", "note" if low else "ok", text, fix))
    return checks


# -- required packages


def _import(name: str) -> ModuleType | BaseException:
    try:
        return importlib.import_module(name)
    except BROKEN as error:
        return error


def one_line(error: BaseException) -> str:
    """An exception as one line of text."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def check_cv2_import(name: str = "cv2") -> DoctorCheck:
    """Whether cv2 imports and has its functions: a partly removed package imports as an empty module."""
    cv2 = _import(name)
    if isinstance(cv2, BaseException):
        return DoctorCheck("working", "cv2", "problem", one_line(cv2), _cv2_fix(cv2))
    if not hasattr(cv2, "remap"):
        text = "imports, but is empty: uninstalling another cv2 wheel removed its files"
        return DoctorCheck("working", "cv2", "problem", text, _REINSTALL_CV2)
    return DoctorCheck("working", "cv2", "ok", f"imports, version {cv2.__version__}")


_REINSTALL_CV2 = f"pip uninstall -y {' '.join(CV2_WHEELS)} && pip install {CV2_WANTED}"


def _cv2_fix(error: BaseException) -> str:
    if "libGL" in str(error) or "libgthread" in str(error):
        return f"the cv2 with GUI support needs the system's libGL; {_REINSTALL_CV2}"
    return _REINSTALL_CV2


def check_video() -> list[DoctorCheck]:
    """PyAV, the FFmpeg inside it, and the codecs that fusepipe uses."""
    fix = "pip install --force-reinstall --no-deps av"
    av = _import("av")
    if isinstance(av, BaseException):
        return [DoctorCheck("working", "PyAV", "problem", one_line(av), fix)]
    try:
        version = getattr(av, "ffmpeg_version_info", "of unknown version")
        known = {(name, mode): _has_codec(av, name, mode) for name, mode, _ in CODECS}
    except BROKEN as error:
        return [DoctorCheck("working", "PyAV", "problem", one_line(error), fix)]
    checks = [DoctorCheck("working", "PyAV", "ok", f"{av.__version__} with FFmpeg {version}")]
    from fusepipe.pipeline.encoding.hardware_encoders import HARDWARE as ENCODERS  # these import av
    from fusepipe.pipeline.encoding.hardware_encoders import encoder_problem
    from fusepipe.pipeline.sources.decoders.hardware import decoder_problem
    from fusepipe.pipeline.sources.decoders.kinds import HARDWARE
    from fusepipe.pipeline.sources.live.failures import has_protocol

    protocols = {name: has_protocol(name) for name in PROTOCOLS}
    decoders = {kind.name: decoder_problem(kind) for kind in HARDWARE}
    encoders: dict[str, str] = {kind.name: encoder_problem(kind, ENCODED_SIZE) for kind in ENCODERS}
    video = [check_codecs(known), check_decoders(decoders), check_encoders(encoders)]
    return [*checks, *video, check_protocols(protocols)]


def _has_codec(av: ModuleType, name: str, mode: str) -> bool:
    try:
        av.codec.Codec(name, mode)
    except (ValueError, av.FFmpegError):  # UnknownCodecError is a ValueError
        return False
    return True


def check_codecs(known: Mapping[tuple[str, str], bool]) -> DoctorCheck:
    """``known``: for each (codec, ``r`` or ``w``) whether FFmpeg was built with it."""

    verbs = {"r": "decodes", "w": "encodes"}
    missing = [f"{verbs[mode]} no {name}" for name, mode, needed in CODECS if needed and not known.get((name, mode))]
    if missing:
        text = f"this FFmpeg {', '.join(missing)}"
        return DoctorCheck(
            "working", "codecs", "problem", text, "pip install --force-reinstall --no-deps --only-binary av av"
        )
    needed_ones = ", ".join(f"{verbs[mode]} {name}" for name, mode, needed in CODECS if needed)
    hardware = [name for name, mode, needed in CODECS if not needed and known.get((name, mode))]
    text = needed_ones + (f"; hardware codecs built in: {', '.join(hardware)}" if hardware else "")
    return DoctorCheck("working", "codecs", "ok", text)


def check_decoders(problems: Mapping[str, str]) -> DoctorCheck:
    """``problems``: for each hardware decoder of video why it does not work here, empty if it does."""
    working = [name for name, problem in problems.items() if not problem]
    failing = "; ".join(f"{name}: {problem}" for name, problem in problems.items() if problem)
    if working:
        text = f"decodes video with {', '.join(working)}, which decoded a test clip exactly"
        return DoctorCheck("working", "video decoder", "ok", text + (f"; not {failing}" if failing else ""))
    return DoctorCheck("working", "video decoder", "ok", f"decodes video in software ({failing})")


def check_encoders(problems: Mapping[str, str]) -> DoctorCheck:
    """``problems``: for each hardware encoder of video, in the order of ``auto``, why it does not work here, if so."""
    working = [name for name, problem in problems.items() if not problem]
    failing = "; ".join(f"{name}: {problem}" for name, problem in problems.items() if problem)
    if working:
        text = f"encodes video with {working[0]} where encoder is auto, which encoded a test clip"
        return DoctorCheck("working", "video encoder", "ok", text + (f"; not {failing}" if failing else ""))
    return DoctorCheck("working", "video encoder", "ok", f"encodes video in software, with x264 ({failing})")


def check_protocols(known: Mapping[str, bool]) -> DoctorCheck:
    """``known``: for each URL scheme of live cameras whether FFmpeg was built with it."""
    text = "reads " + ", ".join(f"{name}://" for name, has in known.items() if has)
    if missing := [f"{name}://" for name, has in known.items() if not has]:
        text += f"; not: {', '.join(missing)}"
    if all(known.get(name) for name in NEEDED_PROTOCOLS):
        return DoctorCheck("working", "live inputs", "ok", text)
    fix = "pip install --force-reinstall --no-deps --only-binary av av"
    return DoctorCheck("working", "live inputs", "problem", text, fix)


def check_openvino() -> list[DoctorCheck]:
    """The devices that OpenVINO finds, with the precisions they support natively."""
    with without_telemetry():
        openvino = _import("openvino")
    fix = "pip install --force-reinstall --no-deps openvino"
    if isinstance(openvino, BaseException):
        return [DoctorCheck("working", "OpenVINO", "problem", one_line(openvino), fix)]
    try:
        core = openvino.Core()
        devices = {name: list(core.get_property(name, "OPTIMIZATION_CAPABILITIES")) for name in core.available_devices}
    except BROKEN as error:
        return [DoctorCheck("working", "OpenVINO", "problem", one_line(error), fix)]
    if "CPU" not in devices:
        return [DoctorCheck("working", "OpenVINO", "problem", "finds no CPU device", fix)]
    numbers = ("FP32", "FP16", "BF16", "INT8")
    parts = [f"{device} ({', '.join(n for n in numbers if n in able)})" for device, able in devices.items()]
    return [DoctorCheck("working", "OpenVINO", "ok", "; ".join(parts))]


def check_model(model: str = "stream") -> list[DoctorCheck]:
    """Loads the model with ``auto``, as a rig does, and fuses one small pair."""
    try:
        import numpy as np

        from fusepipe import load_fuser

        with load_fuser(model) as fuser:
            grey = np.full((48, 64), 100, np.uint8)
            fused = fuser.fuse(grey, grey)
            info = fuser.info
    except FusepipeError as error:
        return [DoctorCheck("working", f"model {model}", "problem", str(error), _model_fix(error))]
    except BROKEN as error:
        fix = "see the problems above; if there are none: pip install --force-reinstall fusepipe"
        return [DoctorCheck("working", f"model {model}", "problem", one_line(error), fix)]
    if fused.shape != grey.shape:
        text = f"returns images of shape {fused.shape} for {grey.shape}"
        return [DoctorCheck("working", f"model {model}", "problem", text, "pip install --force-reinstall fusepipe")]
    reason = f" ({info.reason})" if info.reason else ""
    text = f"auto selects {info.backend} {info.precision} on {info.device}{reason}; fused a test pair"
    return [DoctorCheck("working", f"model {model}", "ok", text)]


def gpu_names() -> list[str]:
    """The GPUs in words: nvidia-smi's, which include the driver's version and the memory, else the driver's own."""
    names = [f"{gpu.index}: {gpu.name} ({gpu.sm}, CUDA {gpu.driver_cuda}, {gpu.uuid})" for gpu in driver().gpus]
    return machine.nvidia_gpus() or names if names else []


def check_engines() -> list[DoctorCheck]:
    """The backends on this machine; its GPU is that of the driver, which needs no packages to answer."""
    return check_backends(importlib.util.find_spec, *gpu_here(), misfit_of_packages)


def _model_fix(error: FusepipeError) -> str:
    """The fix named in the message, else to reinstall."""
    named = re.search(r"(pip install .*|reinstall fusepipe)$", str(error))
    return named[1] if named else "pip install --force-reinstall fusepipe"


# -- folders


def check_cache(folder: Path | None = None) -> DoctorCheck:
    """Whether compiled networks can be cached; otherwise every start compiles them again."""
    if folder is None:
        folder = cache_folder("openvino")
    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return DoctorCheck("folders", "cache", "ok", f"{folder} is writable")
    text = f"{folder} is not writable: every start compiles the network again"
    return DoctorCheck("folders", "cache", "note", text, "set XDG_CACHE_HOME to a writable folder")


def check_disk(folder: Path) -> DoctorCheck:
    """Free disk space in the folder that a run started here writes to."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return DoctorCheck("folders", "disk", "note", f"{folder}: {error.strerror}", "change to another folder")
    text = f"{_gib(free)} GiB free in {folder}"
    if free < LOW_DISK_BYTES:
        return DoctorCheck("folders", "disk", "note", text, "an hour of video takes 1 to 3 GiB: free some space")
    return DoctorCheck("folders", "disk", "ok", text)


def _gib(count_bytes: int) -> str:
    return f"{count_bytes / (1 << 30):.1f}"
