"""Facts about this machine: processor, cores, memory, NVIDIA driver.

Each reader takes text or a path, so that tests can pass files of other machines. Some work on Linux
only: what is unknown is ``None`` or empty, never an error.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")

# feature that speeds up networks -> flags of /proc/cpuinfo, any of which means that the CPU has it
_X86 = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "bf16": {"avx512_bf16", "amx_bf16"},
    "AMX": {"amx_tile"},
}
_ARM = {
    "dot product": {"asimddp"},
    "i8mm": {"i8mm"},
    "bf16": {"bf16"},
    "SVE": {"sve"},
}


@dataclass(frozen=True, slots=True)
class Processor:
    """The CPU: its name, and whether it has each feature that speeds up networks.

    ``features`` is empty where the system does not list any.
    """

    name: str
    features: dict[str, bool]


def parse_cpuinfo(text: str, machine: str) -> Processor:
    """From the text of ``/proc/cpuinfo`` and :func:`platform.machine` (``x86_64``, ``aarch64``)."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    wanted = _ARM if machine in ("aarch64", "arm64") else _X86
    features = {name: bool(names & flags) for name, names in wanted.items()} if flags else {}
    return Processor(fields.get("model name") or fields.get("Model") or machine, features)


def processor(cpuinfo: Path = CPUINFO) -> Processor:
    """The CPU of this machine."""
    machine = platform.machine()
    try:
        return parse_cpuinfo(cpuinfo.read_text(errors="replace"), machine)
    except OSError:
        return Processor(platform.processor() or machine, {})


def usable_cores(cgroup: Path = CGROUP) -> float:
    """How many cores this process may use: its affinity, or less where a container has a quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()[:2]
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return cores


def memory_bytes(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> tuple[int, int] | None:
    """(total, available) bytes, with a container's limit as the total; ``None`` where unknown."""
    try:
        found = dict(re.findall(r"^(MemTotal|MemAvailable):\s*(\d+) kB", meminfo.read_text(), re.MULTILINE))
        total, available = int(found["MemTotal"]) * 1024, int(found["MemAvailable"]) * 1024
    except (OSError, KeyError):
        return None
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # "max": no limit
        return total, available
    return min(total, limit), max(0, min(available, limit - used))


_RTX = (75, 80, 86, 89, 120, 121)


def rtx_runs_on(architecture: str) -> bool:
    """Whether TensorRT-RTX supports an architecture (``SM89``): 7.5, 8.0, 8.6, 8.9, and 12.0 or later.

    Those are the targets that its builder has. 8.7 (Jetson Orin) is not one of them, nor are 9.0 and 10.x of data
    centres: "TensorRT-RTX does not support this compute capability" is what version 1.7.1 says on an H200, though it
    builds there.
    """
    number = int(architecture.removeprefix("SM"))
    return number in _RTX or number > _RTX[-1]


def nvidia_gpus(tool: str = "nvidia-smi") -> list[str]:
    """``name, driver version, memory`` of each NVIDIA GPU; empty where no driver answers."""
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]
