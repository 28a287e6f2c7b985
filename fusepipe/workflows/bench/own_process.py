"""Measurements in a process of their own, see :mod:`fusepipe.workflows.bench.memory_process`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fusepipe.core.errors import FusepipeError

_MODULE = "fusepipe.workflows.bench.memory_process"


def in_own_process(folder: Path, asked: dict[str, Any], time_limit_s: float) -> dict[str, Any]:
    """What :mod:`fusepipe.workflows.bench.memory_process` finds. Raises :class:`FusepipeError` where it fails."""
    question, answer = folder / "asked.json", folder / "found.json"
    question.write_text(json.dumps(asked), "utf-8")
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", _MODULE, str(question), str(answer)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=time_limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise FusepipeError(f"memory was not measured within {time_limit_s:g} s: use a longer --time-limit") from error
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise FusepipeError(f"memory was not measured: {reason}")
    found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
    return found


def run_peak_mib(folder: Path, rig: dict[str, Any], time_limit_s: float) -> float | None:
    """The largest resident memory of ``fusepipe run`` with the body of this rig, alone in a process.

    ``None`` where the system does not report it. Raises :class:`FusepipeError` where the run fails.
    """
    body = {key: value for key, value in rig.items() if key != "name"}
    path = folder / "memory.yaml"
    path.write_text("schema: 1\n" + json.dumps({"rigs": {rig["name"]: body}})[1:-1] + "\n", "utf-8")  # JSON is YAML
    peak: float | None = in_own_process(folder, {"measure": "run", "rig": str(path)}, time_limit_s)["peak_mib"]
    return peak
