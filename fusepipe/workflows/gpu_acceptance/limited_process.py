"""Runs one step in a process of its own, with a time limit: a crash or a hang of a driver ends that step only."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT_S = 10.0
_LONGEST_REASON = 400


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How a process ended: ``passed`` (exit code 0), or ``reason``, in its own words if it printed some."""

    passed: bool
    seconds: float
    reason: str = ""


def run_limited(
    command: Sequence[str], log: Path, limit_s: float, *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> ProcessEnd:
    """Runs a command with its output in ``log``; it and its children are killed after ``limit_s`` seconds.

    They are also killed if the caller is interrupted.
    """
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _kill_group(process)
    seconds = round(time.monotonic() - began, 1)
    if code == 0:
        return ProcessEnd(True, seconds)
    if code is None:
        return ProcessEnd(False, seconds, f"not finished within {limit_s:g} s, stopped; {_last_line(log)}")
    how = f"killed by {signal.Signals(-code).name}; " if code < 0 else ""
    return ProcessEnd(False, seconds, f"{how}{_last_line(log)}")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # all of the group have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_TIMEOUT_S)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:_LONGEST_REASON] if lines else "nothing was printed"
