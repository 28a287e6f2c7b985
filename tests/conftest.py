"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of image data (``tno/``, ``roadscene/``, …); skips with a reason where it is absent.

    ``FUSEPIPE_DATA`` names another place than the folder beside the project.
    """
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("FUSEPIPE_DATA") or default)
    if not (folder / "tno" / "pairs" / "ir").is_dir():
        pytest.skip(f"no image data at {folder} (set FUSEPIPE_DATA to a folder that holds tno/pairs)")
    return folder


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The ffmpeg program, an independent peer; skips with a reason where it is not installed."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed (apt-get install ffmpeg)")
    return program


GI_PYTHON = Path("/usr/bin/python3")  # the system's, for which Debian packages the GObject bindings
RTSP_CAMERA = Path(__file__).parent / "peers" / "rtsp_camera.py"


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspCamera:
    """A gst-rtsp-server process that can be stopped, killed, frozen and started again on its port."""

    def __init__(self, size: str = "320x240", fps: int = 25, codec: str = "h264", user: str = "") -> None:
        self.port = free_port()
        self.size, self.fps, self.codec, self.user = size, fps, codec, user
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def start(self) -> None:
        """Starts it and waits until it listens."""
        words = [str(GI_PYTHON), str(RTSP_CAMERA), str(self.port), self.size, str(self.fps), "--codec", self.codec]
        words += ["--user", self.user] if self.user else []
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 20)
        assert ready and self.process.stdout.readline() == "ready\n", "the RTSP camera did not start"

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=20)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def rtsp_camera() -> Iterator[Callable[..., RtspCamera]]:
    """Makes RTSP cameras; skips with a reason where gst-rtsp-server and its bindings are not installed."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    there = GI_PYTHON.exists() and not subprocess.run([GI_PYTHON, "-c", check], capture_output=True).returncode
    if not there:
        pytest.skip("gst-rtsp-server is not installed (apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi)")
    cameras: list[RtspCamera] = []

    def make(**options: Any) -> RtspCamera:
        cameras.append(RtspCamera(**options))
        return cameras[-1]

    yield make
    for camera in cameras:
        camera.kill()
