"""Sinks for a rig's video files: one file, one with a sidecar, or segments."""

from __future__ import annotations

import time
from typing import Any

from fusepipe.config.sinks import FileSink
from fusepipe.core.models import SINKS, resolve
from fusepipe.core.segment_names import SegmentNames
from fusepipe.pipeline.sinks.base import Sink
from fusepipe.pipeline.sinks.files.recording import RecordingRules, wall_ns
from fusepipe.pipeline.sinks.files.retention import Bounds
from fusepipe.pipeline.sinks.files.video import VideoOptions
from fusepipe.pipeline.sinks.files.video_with_sidecar import Engine, VideoWithSidecar


def rules(config: FileSink) -> RecordingRules:
    """What of a recording may change while it runs."""
    return RecordingRules(config.segment_ns, config.segment_bytes, Bounds(config.max_age_ns, config.max_total_bytes))


def file_sink(
    config: FileSink, *, fps: float | None, overwrite: bool, live: bool, engine: Engine, again: bool = False
) -> Sink:
    """``again``: in place of one that failed, so that it writes over nothing and takes another name."""
    names = SegmentNames(config.file, utc=config.zone == "utc")
    options = VideoOptions(config.codec, config.crf, config.preset, config.flush_ns)
    if config.segmented or again:
        segments: Sink = resolve(SINKS["segments"])(
            names, options, rules(config), live=live, engine=engine, sidecar=config.with_sidecar, fps=fps
        )
        return segments
    path = next(names.paths(time.time_ns()))
    common: dict[str, Any] = {"overwrite": overwrite}
    video = resolve(SINKS["file"])(path, options, fps=fps, **common)
    if not config.with_sidecar:
        made: Sink = video
        return made
    wall = wall_ns if live else None
    return VideoWithSidecar(path, video, engine=engine, wall=wall, flush_ns=config.flush_ns, **common)
