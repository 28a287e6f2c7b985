"""An infrared recording of known temperatures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.core.radiometry import Radiometry
from fusepipe.pipeline.sinks.files.infrared import InfraredSink
from fusepipe.pipeline.sinks.files.track_options import TrackOptions
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.testing import MS, frame

RADIOMETRY = Radiometry("celsius", 0.04, -273.15)
HOT = (3, 5)
"""(x, y) of the pixel that is 100 °C in frame 0, and 10 K hotter in each frame after that."""


def celsius(index: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """24x16: 20 °C at the left border, 0.5 K more with each column, and the hot pixel."""
    made = np.tile(20 + 0.5 * np.arange(24.0), (16, 1))
    made[HOT[1], HOT[0]] = 100 + 10 * index
    return made


def make_recording(
    path: Path,
    *,
    frames: int = 5,
    radiometry: Radiometry | None = RADIOMETRY,
    origin_ms: int = 0,
    track: bool = False,
) -> None:
    """Frames at 0, 40, 80 ... ms after ``origin_ms`` of 14-bit counts of 0.04 K; (0, 0) is dead, (1, 0) saturated.

    ``track``: as the infrared track of a fused video.
    """
    options = VideoOptions(track=TrackOptions(recorded=True)) if track else VideoOptions("ffv1", infrared="recorded")
    video = VideoSink(path, options, fps=25)
    sink = video if track else InfraredSink(video)
    for index in range(frames):
        counts = np.rint(RADIOMETRY.counts(celsius(index) + 273.15)).astype(np.uint16)
        counts[0, 0], counts[0, 1] = 0, 16383
        capture_ns = (origin_ms + 40 * index) * MS
        infrared = replace(frame(Band.INFRARED, index, capture_ns), planes=(Plane(counts, 14),), radiometry=radiometry)
        visible = frame(Band.VISIBLE, index, capture_ns)
        pair = FramePair(index, PairState.FUSED, Band.VISIBLE, infrared, visible)
        sink.write(FusedFrame(pair, visible.planes, PairState.FUSED, index, capture_ns, visible.pts, visible.time_base))
    sink.close()
