"""The input of the benchmark: the synthetic street as a pair of H.264 files."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusepipe.core.frames import Band, Frame, FramePair, FusedFrame, PairState
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sources.synthetic.source import SyntheticSource

FPS = 25
# like an IP camera: no B-frames, good quality
CAMERA = VideoOptions(crf=23, preset="veryfast")


@dataclass(frozen=True, slots=True)
class Clips:
    """An infrared and a visible H.264 file of ``pairs`` frames each; sizes are (width, height)."""

    infrared: Path
    visible: Path
    infrared_size: tuple[int, int]
    visible_size: tuple[int, int]
    pairs: int
    seconds_to_render: float

    def as_json(self) -> dict[str, Any]:
        return {
            "codec": "h264",
            "infrared_size": list(self.infrared_size),
            "visible_size": list(self.visible_size),
            "pairs": self.pairs,
            "infrared_bytes": self.infrared.stat().st_size,
            "visible_bytes": self.visible.stat().st_size,
            "seconds_to_render": round(self.seconds_to_render, 2),
        }


def synthetic_url(band: Band, size: tuple[int, int], pairs: int) -> str:
    """A recording of the street with ``pairs`` frames."""
    duration_ms = round(1000 * pairs / FPS)
    return f"synthetic://street?band={band}&size={size[0]}x{size[1]}&fps={FPS}&duration={duration_ms}ms&pace=fast"


def render_clips(
    folder: Path, visible_size: tuple[int, int], infrared_size: tuple[int, int], pairs: int, time_limit_s: float
) -> Clips:
    """Writes ``infrared.mkv`` and ``visible.mkv`` into ``folder``; fewer pairs where the time limit is reached."""
    started_s = time.monotonic()
    sizes = {Band.INFRARED: infrared_size, Band.VISIBLE: visible_size}
    sources = {band: SyntheticSource(synthetic_url(band, size, pairs), band) for band, size in sizes.items()}
    sinks = {band: VideoSink(folder / f"{band}.mkv", CAMERA, fps=FPS) for band in sizes}
    never = threading.Event()
    written = 0
    try:
        for source in sources.values():
            source.open()
        for infrared, visible in zip(
            sources[Band.INFRARED].frames(never), sources[Band.VISIBLE].frames(never), strict=True
        ):
            for frame in (infrared, visible):
                sinks[frame.band].write(_single(frame))
            written += 1
            if time.monotonic() - started_s > time_limit_s:
                break
    finally:
        for source in sources.values():
            source.close()
        for sink in sinks.values():
            sink.close()
    seconds = time.monotonic() - started_s
    return Clips(
        folder / "infrared.mkv", folder / "visible.mkv", infrared_size, visible_size, written, round(seconds, 2)
    )


def _single(frame: Frame) -> FusedFrame:
    """One camera's frame as a fused frame, for a sink."""
    infrared, visible = (frame, None) if frame.band is Band.INFRARED else (None, frame)
    pair = FramePair(frame.index, PairState.SINGLE, frame.band, infrared, visible)
    return FusedFrame(
        pair=pair,
        planes=frame.planes,
        state=PairState.SINGLE,
        index=frame.index,
        capture_ns=frame.capture_ns,
        pts=frame.pts,
        time_base=frame.time_base,
    )
