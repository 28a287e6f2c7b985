"""What a worker does with a clip that is split: fuses one of its sections, or joins them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from fusepipe.core.errors import FusepipeError
from fusepipe.core.frames import Band
from fusepipe.pipeline.measures.run_statistics import RunStatistics
from fusepipe.pipeline.run_limits import RunLimits
from fusepipe.pipeline.sinks.files.joined_video import SegmentFile, UnlikeSegmentsError, join_segments
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.rig.factories.sinks import SinkContext
from fusepipe.rig.factories.sources import make_source
from fusepipe.rig.opening import ProgramParts, check_available, open_rig
from fusepipe.rig.report.shortfall import shortfall
from fusepipe.rig.run import RigRun
from fusepipe.workflows.batch.entries import BatchEntry
from fusepipe.workflows.batch.kept_engine import KeptEngine
from fusepipe.workflows.batch.records import hashed_file
from fusepipe.workflows.batch.section_source import SectionSink, SectionSource
from fusepipe.workflows.batch.segment_files import (
    SEGMENT,
    FinishedSegment,
    publish_segment,
    read_segment,
    segment_made_from,
    segments_folder,
)
from fusepipe.workflows.batch.segment_plan import CannotSplitError, ClipPart, Section
from fusepipe.workflows.batch.split_check import segment_sink


def fuse_segment(entry: BatchEntry, part: ClipPart, out: Path, made: str, work: Path, engine: KeptEngine) -> bool:
    """Fuses the section of a clip, in the folder ``work``, and keeps it in the state folder of ``out``.

    Returns whether it was not finished before. Raises what a run of the clip raises.
    """
    assert part.index is not None
    folder, made_from = segments_folder(out, entry.output), segment_made_from(made, part)
    if read_segment(folder, part.index, made_from) is not None:
        return False
    try:
        segment = _fused(entry, part.plan.sections[part.index], work, engine)
    except CannotSplitError as error:
        segment = FinishedSegment("", problem=str(error))
    file = work / SEGMENT
    if segment.captures and not segment.problem:
        name = f"{part.index:04}.mkv"
        segment = replace(segment, file=name, sha256=hashed_file(file, name).sha256)
    publish_segment(work, folder, part.index, replace(segment, made_from=made_from))
    return True


def _fused(entry: BatchEntry, section: Section, work: Path, engine: KeptEngine) -> FinishedSegment:
    rig = entry.rig.model_copy(update={"sinks": (segment_sink(entry, str(work / SEGMENT)),)})
    check_available(rig)
    started_s = time.monotonic()
    statistics = RunStatistics()
    with ExitStack() as stack:
        sources = (
            _section_source(entry, Band.INFRARED, section),
            _section_source(entry, Band.VISIBLE, section),
        )
        opened = open_rig(
            rig,
            SinkContext(warn=statistics.warn),
            stack,
            warn=statistics.warn,
            parts=ProgramParts(sources, fuser=engine.borrow(rig.fusion)),
        )
        sink = SectionSink(opened.sinks[0], section)
        limits = RunLimits(begin_ns=section.before_ns, end_ns=section.end_ns)
        run = RigRun(replace(opened, sinks=[sink]), limits, statistics, statistics.warn)
        stack.pop_all()  # the threads of the run close what was opened
    run.start()
    run.wait()
    if run.graph.error is not None:
        run.raise_error()
    report = run.report()
    return FinishedSegment(
        "",
        captures=tuple(sink.captures),
        states=dict(sink.states),
        before=sink.before,
        last=sink.last,
        seconds=round(time.monotonic() - started_s, 3),
        engine=asdict(opened.fuser.info),
        warnings=tuple(report.warnings),
    )


def _section_source(entry: BatchEntry, band: Band, section: Section) -> SectionSource:
    config = entry.rig.infrared if band is Band.INFRARED else entry.rig.visible
    source = make_source(config, band, entry.rig.name)
    if not isinstance(source, VideoFileSource):
        raise CannotSplitError(f"the {band} input is not a video file any more")
    return SectionSource(source, section.read_from_ns.get(band))


def join_clip(entry: BatchEntry, part: ClipPart, out: Path, made: str, work: Path, *, strict: bool) -> dict[str, Any]:
    """Joins the segments of a clip to its output in the folder ``work``; returns the figures of the clip.

    Raises :class:`CannotSplitError` where they do not fit together, :class:`FusepipeError` where one is missing or
    damaged, or with ``strict`` where under half of the possible pairs were fused.
    """
    started_s = time.monotonic()
    plan, folder = part.plan, segments_folder(out, entry.output)
    segments = []
    for index in range(len(plan.sections)):
        segment = read_segment(folder, index, segment_made_from(made, ClipPart(plan, index)))
        if segment is None:
            raise FusepipeError(f"segment {index + 1} was damaged or removed; the same command fuses it again")
        segments.append(segment)
    _check_seams(plan.sections, segments)
    states: Counter[str] = Counter()
    for segment in segments:
        states.update(segment.states or {})
    if not states["fused"]:
        raise CannotSplitError("no pair was fused")
    short = shortfall(states, {str(band): count for band, count in plan.read.items()}, {}, whole=True)
    if strict and short:
        raise FusepipeError(short)
    sink = segment_sink(entry, SEGMENT)
    files = [SegmentFile(folder / segment.file, segment.captures) for segment in segments if segment.file]
    try:
        join_segments(files, work / Path(entry.output).name, fps=plan.fps, flush_ns=sink.flush_ns)
    except UnlikeSegmentsError as error:
        raise CannotSplitError(str(error)) from error
    warnings = [text for segment in segments for text in segment.warnings]
    return {
        "seconds": round(sum(segment.seconds for segment in segments) + time.monotonic() - started_s, 3),
        "pairs": dict(states),
        "read": {str(band): count for band, count in plan.read.items()},
        "segments": len(segments),
        "engine": segments[0].engine,
        "warnings": [*dict.fromkeys(warnings), *([short] if short else [])],
    }


def _check_seams(sections: Sequence[Section], segments: Sequence[FinishedSegment]) -> None:
    """Raises :class:`CannotSplitError` where two segments made different frames of the pair between them."""
    for segment in segments:
        if segment.problem:
            raise CannotSplitError(segment.problem)
    for (earlier, later), section in zip(pairwise(segments), sections[1:], strict=True):
        reached = bool(earlier.captures) and earlier.captures[-1] == section.before_ns
        if later.before != (earlier.last if reached else ""):
            raise CannotSplitError(f"two segments differ in the frame at {(section.before_ns or 0) / 1e9:.3f} s")
