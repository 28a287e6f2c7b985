"""gst-rtsp-server processes as peers: cameras, and a server that accepts pushed streams."""

from __future__ import annotations

import functools
import select
import signal
import subprocess
import threading
import time
from pathlib import Path

from helpers.ports import free_port

GI_PYTHON = Path("/usr/bin/python3")  # the system's, for which Debian packages the GObject bindings
RTSP_CAMERA = Path(__file__).with_name("rtsp_camera.py")
RTSP_RECORDER = Path(__file__).parent / "rtsp_recorder.py"
MISSING = (
    "gst-rtsp-server or an encoder for it is not installed (apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly)"
)
# A server whose factory lacks an element starts all the same, and answers each DESCRIBE with 503.
CAMERA_ELEMENTS = ("videotestsrc", "x264enc", "jpegenc", "rtph264pay", "rtpjpegpay")
H265_ELEMENTS = ("x265enc", "rtph265pay")  # of gstreamer1.0-plugins-bad
RECORDER_ELEMENTS = ("rtph264depay",)
CHECK = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
raise SystemExit(not all(map(Gst.ElementFactory.find, sys.argv[1:])))
"""


@functools.cache
def gst_rtsp_server(elements: tuple[str, ...] = CAMERA_ELEMENTS + RECORDER_ELEMENTS) -> bool:
    """Whether the system's Python has gst-rtsp-server and the GStreamer elements of a peer."""
    if not GI_PYTHON.exists():
        return False
    return subprocess.run([GI_PYTHON, "-c", CHECK, *elements], capture_output=True, timeout=60).returncode == 0


class RtspCamera:
    """A gst-rtsp-server process that can be stopped, killed, frozen and started again on its port.

    ``noise_kbps`` shows noise at that bit rate in place of a moving ball. The process exits after ``life_s``.
    """

    def __init__(
        self,
        size: str = "320x240",
        fps: int = 25,
        codec: str = "h264",
        user: str = "",
        noise_kbps: int = 0,
        life_s: int = 600,
    ) -> None:
        self.port = free_port()
        self.size, self.fps, self.codec, self.user = size, fps, codec, user
        self.noise_kbps, self.life_s = noise_kbps, life_s
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def start(self) -> None:
        """Starts it and waits until it listens."""
        words = [str(GI_PYTHON), str(RTSP_CAMERA), str(self.port), self.size, str(self.fps), "--codec", self.codec]
        words += ["--noise", str(self.noise_kbps), "--life", str(self.life_s)]
        words += ["--user", self.user] if self.user else []
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 20)
        assert ready and self.process.stdout.readline() == "ready\n", "the RTSP camera did not start"

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def restore(self, size: str) -> None:
        """Restores the initial state, with this size and no password; restarts the process where needed."""
        if self.process is not None:
            self.send(signal.SIGCONT)
            if (self.size, self.user) == (size, ""):
                return
        self.kill()
        self.size, self.user = size, ""
        self.start()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=20)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


class RtspRecorder:
    """A gst-rtsp-server process that accepts ``rtsp://127.0.0.1:PORT/roof`` and counts received buffers."""

    def __init__(self) -> None:
        self.port = free_port()
        self.buffers = 0
        words = [str(GI_PYTHON), str(RTSP_RECORDER), str(self.port)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"recorder-{self.port}")
        self._reader.start()
        assert self._listening.wait(20), "the RTSP recorder did not start"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == "listening\n":
                self._listening.set()
            elif line.startswith("buffers "):
                self.buffers = int(line.split()[1])

    def has_more_than(self, buffers: int, timeout_s: float) -> bool:
        """Waits until more than ``count`` buffers have arrived."""
        deadline = time.monotonic() + timeout_s
        while self.buffers <= buffers and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.buffers > buffers

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
