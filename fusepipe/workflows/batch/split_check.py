"""Whether the segments of a clip would be equal to the whole clip: what depends on all frames before is named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fusepipe.config.gain import AgcConfig
from fusepipe.config.schema import FileSink, Rig
from fusepipe.core.frames import Band
from fusepipe.core.version import __version__
from fusepipe.core.video_formats import video_format
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.rig.factories.sources import make_source
from fusepipe.workflows.batch.entries import BatchEntry
from fusepipe.workflows.batch.scene_scan import count_pairs, follow_scene
from fusepipe.workflows.batch.segment_plan import (
    CannotSplitError,
    SegmentChoice,
    SegmentPlan,
    StreamTimes,
    plan_sections,
    stream_times,
)


def plan_segments(entry: BatchEntry, choice: SegmentChoice, made_from: str, *, scored: bool) -> SegmentPlan | None:
    """How a clip is split; ``None`` for one that is not long enough.

    Reads the packets of both files, and decodes their first frames only. ``made_from``: a hash of the clip.
    ``scored``: its pairs are counted, for metrics. Raises :class:`CannotSplitError` where the segments could differ
    from the whole clip, :class:`SourceError` as the sources do.
    """
    if reason := _settings_problem(entry):
        raise CannotSplitError(reason)
    rig = entry.rig
    times, infos = _read_packets(rig)
    sections = plan_sections(times, rig.sync, choice)
    if len(sections) == 1:
        return None
    fused, first_pass = None, ""
    if scored:
        sections, fused = count_pairs(rig, sections, times)
    if _follows_scene(rig, infos[Band.INFRARED]):
        first_pass = hashlib.sha256(f"{made_from} {sections!r} {__version__}".encode()).hexdigest()
    return SegmentPlan(
        sections,
        {band: len(times[band].frames) for band in times},
        infos[rig.sync.reference].fps,
        infos[Band.INFRARED].fps,
        fused,
        first_pass,
    )


def find_handovers(entry: BatchEntry, plan: SegmentPlan, folder: Path) -> SegmentPlan:
    """The plan with what its sections begin with, which is kept in ``folder``; or with the problem of that.

    Decodes infrared frames as :func:`follow_scene`. Raises :class:`SourceError` as the source.
    """
    try:
        times, _ = _read_packets(entry.rig)
        return follow_scene(entry.rig, plan, times, folder)
    except CannotSplitError as error:
        return replace(plan, problem=str(error))


def _read_packets(rig: Rig) -> tuple[Mapping[Band, StreamTimes], Mapping[Band, SourceInfo]]:
    """The times of both files, and what they say of themselves."""
    configs = {Band.INFRARED: rig.infrared, Band.VISIBLE: rig.visible}
    times, infos = {}, {}
    for band, config in configs.items():
        source = make_source(config, band, rig.name)
        try:
            if not isinstance(source, VideoFileSource):
                raise CannotSplitError(f"the {band} input is not a video file")
            infos[band] = source.open()
            packets = source.packet_times()
        finally:
            source.close()
        times[band] = stream_times(packets, band)
    return times, infos


def segment_sink(entry: BatchEntry, file: str) -> FileSink:
    """The sink of a segment of an entry: as that of the whole clip, always in Matroska, whose packets fit all."""
    codec = FileSink.model_validate({**entry.sink, "file": entry.output.replace("%", "%%")}).chosen_codec
    return FileSink.model_validate({**entry.sink, "file": file.replace("%", "%%"), "codec": codec})


def _settings_problem(entry: BatchEntry) -> str:
    """What in the settings of an entry makes its frames depend on all frames before; empty for nothing."""
    if entry.kind != "video":
        return "its output is not a video"
    if entry.remote:
        return "its inputs are on other machines, and each segment would copy them"
    sink = FileSink.model_validate({**entry.sink, "file": entry.output.replace("%", "%%")})
    found, rig = video_format(entry.output), entry.rig
    hot = sink.view.hot
    checks: Sequence[tuple[bool, str]] = (
        (found is not None and not found.timestamps, "AVI has no capture times"),
        (hot is not None and hot.percentile is not None, "view.hot.percentile follows the scene"),
        (rig.registration.drift == "correct", "registration.drift: correct follows the scene"),
        (rig.registration.local == "on", "registration.local follows the scene"),
        (rig.visible.denoise == "auto", "visible.denoise follows the scene"),
        (rig.sync.on_missing == "interpolate", "sync.on_missing: interpolate takes images of the next segment"),
    )
    return next((text for problem, text in checks if problem), "")


def _follows_scene(rig: Rig, infrared: SourceInfo) -> bool:
    """Whether what is done with an infrared frame depends on all before it: gain control, repair, noise reduction."""
    config = rig.infrared
    agc = config.agc or AgcConfig()
    fixed = config.value_range is not None or agc.temperatures is not None or agc.mode == "off"
    gain = not fixed and (infrared.bit_depth > 8 or config.agc is not None)
    return gain or config.repair is not None or config.denoise == "auto"
