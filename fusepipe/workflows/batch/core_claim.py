"""Cores of this machine for workers that do not know of each other, as the actors of a cluster."""

from __future__ import annotations

import fcntl
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CoreClaim:
    """A core, and the lock that keeps others from choosing it; -1 where all were taken."""

    number: int
    descriptor: int


def claim_core() -> CoreClaim:
    """A core that no other worker has claimed, else any; the claim ends with this process."""
    cores = sorted(os.sched_getaffinity(0))
    folder = Path(tempfile.gettempdir()) / f"fusepipe-cores-{os.getuid()}"
    for core in cores:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(folder / str(core), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            break  # no claims here: all start anywhere
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return CoreClaim(core, descriptor)
        except OSError:
            os.close(descriptor)
    return CoreClaim(cores[os.getpid() % len(cores)], -1)
