"""What fusepipe does behind the user's back: no connection, and no file outside caches, outputs and temporary folders.

Each way in runs in a process of its own, in which an audit hook ends the process at the first forbidden event.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

HOOK = """
import os, sys

ALLOWED = tuple(os.path.realpath(folder) + os.sep for folder in {allowed!r})
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

def forbidden(event, what):
    os.write(2, f"FORBIDDEN {{event}} {{what}}\\n".encode())
    os._exit(99)

def hook(event, args):
    if event in NETWORK:
        forbidden(event, args[1:])
    path = None
    if event == "open" and isinstance(args[0], (str, bytes)) and args[2] and args[2] & WRITE:
        path = args[0]
    elif event in ("os.mkdir", "os.remove", "os.rmdir"):
        path = args[0]
    elif event in ("os.rename", "os.link", "os.symlink"):
        path = args[1]
    if path is not None:
        real = os.path.realpath(os.fsdecode(path))
        if not (real + os.sep).startswith(ALLOWED) and not real.startswith(("/dev/", "/proc/")):
            forbidden(event, real)

sys.addaudithook(hook)
"""

COMMAND = "import sys; sys.argv = ['fusepipe', *{arguments!r}]; from fusepipe.cli import main; main()"
RIG = """\
schema: 1
rigs:
  one:
    infrared: {url: "synthetic://street?band=infrared&size=64x48&duration=400ms"}
    visible: {url: "synthetic://street?band=visible&size=64x48&duration=400ms"}
    sinks: [{images: out/run}]
"""
FROM_PYTHON = """
import numpy as np
import fusepipe
with fusepipe.load_fuser("stream") as fuser:
    assert fuser.fuse(np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8)).shape == (32, 32)
"""
WAYS_IN = {
    "doctor": COMMAND.format(arguments=["doctor"]),
    "fuse": COMMAND.format(arguments=["fuse", "ir.png", "vis.png", "-o", "out/fused.png"]),
    "run": COMMAND.format(arguments=["run", "--rig", "rigs.yaml"]),
    "compare": COMMAND.format(arguments=["compare", "--data", ".", "--metrics", "EN", "--report", "out/report.json"]),
    "load_fuser": FROM_PYTHON,
    "the reference runner": "from fusepipe.engines.backends.openvino import network; network.openvino_version()",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("home", "cache", "out", "temporary", "work/ir", "work/vis", "work/out"):
        (tmp_path / name).mkdir(parents=True)
    work = tmp_path / "work"
    for file in ("ir.png", "vis.png", "ir/0.png", "vis/0.png"):
        cv2.imwrite(str(work / file), np.full((48, 64), 90, np.uint8))
    (work / "rigs.yaml").write_text(RIG)
    return tmp_path


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs code as a user without a consent file and outside of CI, with the hook installed."""
    allowed = [str(folder / name) for name in ("cache", "work/out", "temporary")]
    environ = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environ |= {
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TMPDIR": str(folder / "temporary"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", HOOK.format(allowed=allowed) + code],
        capture_output=True,
        text=True,
        cwd=folder / "work",
        env=environ,
        timeout=300,
    )


@pytest.mark.parametrize("way", WAYS_IN)
def test_nothing_is_sent_and_nothing_written_elsewhere(folder: Path, way: str) -> None:
    ran = run(folder, WAYS_IN[way])
    assert "FORBIDDEN" not in ran.stderr, ran.stderr
    assert ran.returncode in ((0, 1) if way == "doctor" else (0,)), ran.stderr
    assert list((folder / "home").rglob("*")) == []


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.getaddrinfo('example.invalid', 443)",
        "import pathlib; (pathlib.Path.home() / 'id').write_text('1')",
        "import os; os.mkdir(os.path.expanduser('~/intel'))",
    ],
)
def test_the_hook_notices(folder: Path, code: str) -> None:
    ran = run(folder, code)
    assert ran.returncode == 99 and "FORBIDDEN" in ran.stderr


def test_openvino_telemetry_of_the_calling_program_is_kept(folder: Path) -> None:
    """Only OpenVINO's import is kept from the telemetry package; a program that has it loaded keeps its module."""
    pytest.importorskip("openvino_telemetry")
    code = "import sys, openvino_telemetry as mine\n" + FROM_PYTHON + "assert sys.modules['openvino_telemetry'] is mine"
    ran = run(folder, code)
    assert ran.returncode == 0, ran.stderr
