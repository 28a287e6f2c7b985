"""Makes sinks that write files: a video, a video with a sidecar, segments."""

from __future__ import annotations

import time
from dataclasses import replace

from fusepipe.config.sinks import FileSink
from fusepipe.core.segment_names import SegmentNames
from fusepipe.pipeline.sinks.base import Sink
from fusepipe.pipeline.sinks.files.infrared import InfraredSink
from fusepipe.pipeline.sinks.files.recording import RecordingRules, RecordingSink, wall_ns
from fusepipe.pipeline.sinks.files.retention import Bounds
from fusepipe.pipeline.sinks.files.track_options import TrackOptions
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sinks.files.video_with_sidecar import Engine, VideoWithSidecar


def recording_rules(config: FileSink) -> RecordingRules:
    """Segment length and retention, which may change while the recording runs."""
    return RecordingRules(config.segment_ns, config.segment_bytes, Bounds(config.max_age_ns, config.max_total_bytes))


def video_sink(
    config: FileSink,
    *,
    fps: float | None,
    infrared_camera: TrackOptions | None,
    overwrite: bool,
    live: bool,
    engine: Engine,
    restart: bool = False,
    synced: bool = True,
) -> Sink:
    """``synced`` as of :class:`VideoOptions`.

    ``restart``: in place of one that failed, so it takes a name of its own and overwrites nothing.
    """
    names = SegmentNames(config.file, utc=config.zone == "utc")
    infrared = config.content == "infrared"
    options = VideoOptions(
        config.chosen_codec, config.crf, config.preset, config.flush_ns, synced, encoder=config.encoder
    )
    if config.infrared_track == "on":
        options = replace(options, track=infrared_camera or TrackOptions(recorded=not live))
    if infrared:
        options = replace(options, infrared="live" if live else "recorded")
    if config.segmented or restart:
        rules = recording_rules(config)
        sidecar = config.with_sidecar
        recording = RecordingSink(names, options, rules, live=live, engine=engine, sidecar=sidecar, fps=fps)
        return InfraredSink(recording) if infrared else recording
    path = next(names.paths(time.time_ns()))
    video = VideoSink(path, options, fps=fps, overwrite=overwrite)
    writer: VideoSink | VideoWithSidecar = video
    if config.with_sidecar:
        wall = wall_ns if live else None
        writer = VideoWithSidecar(
            path, video, engine=engine, wall=wall, flush_ns=config.flush_ns, synced=synced, overwrite=overwrite
        )
    return InfraredSink(writer) if infrared else writer
