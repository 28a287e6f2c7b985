"""Cameras for rigs that are measured: recordings of the synthetic street, served over RTSP by a process of their own.

Cameras that are rendered in the process of the rigs (``synthetic://street``) will not do for several rigs: rendering
takes Python's interpreter lock for longer than fusion does.
"""

from __future__ import annotations

import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fusepipe.workflows.bench.clips import render_clips

GI_PYTHON = "/usr/bin/python3"  # the system's, for which Debian packages the GObject bindings
SERVER = Path(__file__).with_name("rtsp_clips.py")
BANDS = ("infrared", "visible")
CLIP_PAIRS = 250
FPS = 25
START_S = 20.0


def repeated(clip: Path, times: int, out: Path) -> None:
    """Writes a video ``times`` times in a row, without encoding it again."""
    command = ["ffmpeg", "-v", "error", "-y", "-stream_loop", str(times - 1), "-i", str(clip), "-c", "copy", str(out)]
    subprocess.run(command, check=True, timeout=600)


def make_clips(folder: Path, size: tuple[int, int], seconds: float) -> dict[str, Path]:
    """A recording for each band, (width, height) at ``FPS`` frames per second, of at least ``seconds``."""
    clips = {band: folder / f"{band}-{size[0]}x{size[1]}-{seconds:.0f}s.mkv" for band in BANDS}
    if not all(clip.exists() for clip in clips.values()):
        for band in BANDS:
            (folder / f"{band}.mkv").unlink(missing_ok=True)
        made = render_clips(folder, size, size, CLIP_PAIRS, 300.0)
        for band, clip in clips.items():
            repeated(folder / f"{band}.mkv", -(-round(seconds * FPS) // made.pairs), clip)
    return clips


@contextmanager
def rtsp_cameras(clips: dict[str, Path], rigs: Sequence[str], port: int, seconds: float) -> Iterator[dict[str, str]]:
    """The URLs ``{rig}-{band}`` of a camera for each band of each rig, while the server runs, at most ``seconds``."""
    names = [f"{rig}-{band}" for rig in rigs for band in BANDS]
    mounts = [f"{name}={clips[name.rpartition('-')[2]]}" for name in names]
    command = [GI_PYTHON, str(SERVER), str(port), str(round(seconds)), *mounts]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        ready, _, _ = select.select([server.stdout], [], [], START_S)
        if not ready or server.stdout.readline() != "ready\n":
            raise SystemExit(
                "the RTSP server did not start; it needs python3-gi, gir1.2-gst-rtsp-server-1.0, "
                "gstreamer1.0-plugins-good and gstreamer1.0-plugins-bad"
            )
        yield {name: f"rtsp://127.0.0.1:{port}/{name}" for name in names}
    finally:
        server.kill()
        server.wait(20)
        if server.stdout is not None:
            server.stdout.close()
