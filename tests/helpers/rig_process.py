"""``fusepipe run`` in processes of its own, for tests that kill or signal them or read their log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers import waiting


class RigProcesses:
    """Logs are in ``log``, reports in ``out``; :meth:`close` ends all processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, text: str, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Runs the rigs of this file; ``options`` are those of ``Popen``."""
        path = self._folder / "rigs.yaml"
        path.write_text(text)
        command = [sys.executable, "-m", "fusepipe", "run", "--rig", str(path), *words]
        with (self._folder / "log").open("w") as log, (self._folder / "out").open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=log, start_new_session=True, **options)
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait(timeout=20)


def wait_for(condition: Callable[[], object], folder: Path, timeout_s: float = 100) -> None:
    """Fails with the log in ``folder`` if the condition is not true in time."""
    waiting.wait_for(condition, timeout_s, (folder / "log").read_text)
