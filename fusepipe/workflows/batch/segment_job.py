"""What a worker does with a part of a clip that is split: fuses one of its sections."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fusepipe.core.errors import FusepipeError
from fusepipe.core.frames import Band
from fusepipe.pipeline.measures.run_statistics import RunStatistics
from fusepipe.pipeline.run_limits import RunLimits
from fusepipe.pipeline.sinks.program.callback import CallbackSink
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.stages.scene_state import SceneState
from fusepipe.rig.factories.sinks import SinkContext
from fusepipe.rig.factories.sources import make_source
from fusepipe.rig.opening import ProgramParts, check_available, open_rig
from fusepipe.rig.run import RigRun
from fusepipe.workflows.batch.clip_metrics import PartMetrics, sampled_pairs
from fusepipe.workflows.batch.entries import BatchEntry
from fusepipe.workflows.batch.kept_engine import KeptEngine
from fusepipe.workflows.batch.records import hashed_file
from fusepipe.workflows.batch.section_source import SectionSink, SectionSource
from fusepipe.workflows.batch.segment_files import (
    SEGMENT,
    SEGMENT_SIDECAR,
    FinishedSegment,
    publish_segment,
    read_segment,
    read_state,
    segment_made_from,
    segments_folder,
)
from fusepipe.workflows.batch.segment_plan import CannotSplitError, ClipPart, Section, SegmentPlan
from fusepipe.workflows.batch.split_check import segment_sink


@dataclass(frozen=True, slots=True)
class SplitClip:
    """A clip that is split, and the folder ``out`` of its output.

    ``made``: the hash of its settings and inputs. ``metrics``: those that it is scored with.
    """

    entry: BatchEntry
    plan: SegmentPlan
    out: Path
    made: str
    metrics: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its segments are."""
        return segments_folder(self.out, self.entry.output)

    @property
    def follows(self) -> bool:
        """Whether its segments get what stages remember of the scene."""
        return bool(self.plan.first_pass)

    def made_from(self, index: int) -> str:
        """A hash of all that a segment depends on."""
        return segment_made_from(self.made, ClipPart(self.plan, index), self.metrics)


def fuse_segment(clip: SplitClip, index: int, work: Path, engine: KeptEngine) -> bool:
    """Fuses a section of the clip, in the folder ``work``, and keeps it in the state folder of the output.

    Returns whether it was not finished before. Raises what a run of the clip raises.
    """
    folder, made_from = clip.folder, clip.made_from(index)
    if read_segment(folder, index, made_from) is not None:
        return False
    try:
        segment = _fused(clip, index, work, engine)
    except CannotSplitError as error:
        segment = FinishedSegment("", problem=str(error))
    if segment.captures and not segment.problem:
        name = f"{index:04}.mkv"
        segment = replace(segment, file=name, sha256=hashed_file(work / SEGMENT, name).sha256)
        if (work / SEGMENT_SIDECAR).exists():
            name = f"{index:04}.jsonl"
            segment = replace(segment, sidecar=name, sidecar_sha256=hashed_file(work / SEGMENT_SIDECAR, name).sha256)
    publish_segment(work, folder, index, replace(segment, made_from=made_from))
    return True


def _fused(clip: SplitClip, index: int, work: Path, engine: KeptEngine) -> FinishedSegment:
    entry, sections = clip.entry, clip.plan.sections
    section = sections[index]
    seam_ns = sections[index + 1].before_ns if index + 1 < len(sections) else None
    config = segment_sink(entry, str(work / SEGMENT))
    rig = entry.rig.model_copy(update={"sinks": (config,)})
    check_available(rig)
    started_s = time.monotonic()
    statistics = RunStatistics()
    scores = PartMetrics(clip.metrics, sampled_pairs(clip.plan.fused or 0), section.handover.fused, section.begin_ns)
    with ExitStack() as stack:
        sources = (
            _section_source(entry, Band.INFRARED, section),
            _section_source(entry, Band.VISIBLE, section),
        )
        fuser = engine.borrow(rig.fusion)
        opened = open_rig(
            rig,
            SinkContext(synced=False, warn=statistics.warn, engine=lambda: asdict(fuser.info)),
            stack,
            warn=statistics.warn,
            parts=ProgramParts(sources, more_sinks=[CallbackSink(scores)] if clip.metrics else [], fuser=fuser),
        )
        sink = SectionSink(opened.sinks[0], section, tracked=config.infrared_track == "on", seam_ns=seam_ns)
        limits = RunLimits(begin_ns=section.before_ns, end_ns=section.end_ns)
        opened = replace(opened, sinks=[sink, *opened.sinks[1:]])
        run = RigRun(opened, limits, statistics, statistics.warn)
        if section.handover.state:
            run.scene.restore(_handed_over(clip, index))
        stack.pop_all()  # the threads of the run close what was opened
    run.start()
    run.wait()
    if run.graph.error is not None:
        run.raise_error()
    report = run.report()
    return FinishedSegment(
        "",
        captures=tuple(sink.captures),
        track=tuple(sink.track),
        origin_ns=sink.origin_ns,
        states=dict(sink.states),
        before=sink.before,
        last=sink.last,
        last_ns=sink.last_ns,
        ends=run.scene.state().digest() if clip.follows else "",
        scores=tuple(scores.rows()),
        seconds=round(time.monotonic() - started_s, 3),
        engine=asdict(opened.fuser.info),
        warnings=tuple(report.warnings),
        counts_checked=run.scene.tone_map.checked,
        counts_warning=run.scene.tone_map.counts_warning,
        unreadable={str(source.band): source.unreadable for source in sources},
    )


def _handed_over(clip: SplitClip, index: int) -> SceneState:
    state = read_state(clip.folder, index, clip.plan.sections[index].handover.state)
    if state is None:
        raise FusepipeError("what it starts from was damaged or removed; the same command makes it again")
    return state


def _section_source(entry: BatchEntry, band: Band, section: Section) -> SectionSource:
    config = entry.rig.infrared if band is Band.INFRARED else entry.rig.visible
    source = make_source(config, band, entry.rig.name)
    if not isinstance(source, VideoFileSource):
        raise CannotSplitError(f"the {band} input is not a video file any more")
    return SectionSource(source, section.read_from_ns.get(band), section.read_index.get(band, 0))
