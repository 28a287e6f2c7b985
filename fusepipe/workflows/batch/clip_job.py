"""What a worker does with one clip: skip it if it is finished, else fuse it with the worker's engine and publish it."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

from fusepipe.config.schema import FileSink, ImagesSink, Rig, SinkConfig
from fusepipe.core.errors import (
    DiskFullError,
    FusepipeError,
    OutputExistsError,
    SinkSetupError,
    SourceError,
    UsageError,
    message_lines,
)
from fusepipe.core.redact import remember
from fusepipe.pipeline.sinks.base import Sink
from fusepipe.pipeline.sinks.files.images import ImageFileSink
from fusepipe.pipeline.sinks.files.partial_file import write_error
from fusepipe.rig.api import Pipeline
from fusepipe.rig.report.run_report import RunReport
from fusepipe.rig.report.shortfall import unreadable_counts
from fusepipe.workflows.batch.clip_metrics import ClipMetrics
from fusepipe.workflows.batch.entries import STATE_FOLDER, BatchEntry
from fusepipe.workflows.batch.kept_engine import KeptEngine
from fusepipe.workflows.batch.records import (
    check_unclaimed,
    is_finished,
    made_from,
    publish_output,
    read_record,
    work_folder,
)
from fusepipe.workflows.batch.remote_inputs import with_local_inputs
from fusepipe.workflows.batch.segment_files import remove_segments, segments_folder
from fusepipe.workflows.batch.segment_job import SplitClip, fuse_segment
from fusepipe.workflows.batch.segment_joining import join_clip
from fusepipe.workflows.batch.segment_plan import FIRST_PASS, CannotSplitError, ClipPart, SegmentChoice, SegmentPlan
from fusepipe.workflows.batch.split_check import find_handovers, plan_segments

ClipStatus = Literal["finished", "skipped", "failed", "split", "not started"]
_UNFINISHED = re.compile(rf"{re.escape(STATE_FOLDER)}/unfinished/[0-9a-f]{{16}}/")
_KEPT = re.compile(rf"; what was written is in [^;]*/{_UNFINISHED.pattern}[^;]*")
_CHANGED = "the output was not as the batch had written it, damaged or changed by another program; it was replaced"
# these do not change by trying again
_PERMANENT = (UsageError, SourceError, OutputExistsError, SinkSetupError)


@dataclass(frozen=True, slots=True)
class ClipJob:
    """One attempt at a clip, or at a part of it. See :class:`BatchOptions` for the options.

    ``out`` is the output folder; ``segments``: how a clip that is long enough is split; ``None``: not at all.
    """

    entry: BatchEntry
    out: Path
    overwrite: bool = False
    strict: bool = False
    metrics: tuple[str, ...] = ()
    segments: SegmentChoice | None = None


@dataclass(frozen=True, slots=True)
class ClipResult:
    """How a clip ended; plain values.

    ``retry``: another attempt may help. ``figures`` are those of the run that made the output, also for a skipped one.
    ``attempts`` is set by the queue. ``plan``: how a clip is split, with the status ``split``, or what its first pass
    has found. ``task``: that of the part of a clip which this is the result of, else empty.
    """

    row: int
    output: str
    status: ClipStatus
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    error_type: str = ""
    exit_code: int = 0
    retry: bool = False
    disk_full: bool = False
    attempts: int = 1
    plan: SegmentPlan | None = None
    task: str = ""


def run_clip(job: ClipJob, engine: KeptEngine) -> ClipResult:
    """Never raises for what goes wrong with the clip: the result says it."""
    entry = job.entry
    remember(*entry.inputs)
    try:
        return _fused(job, engine)
    except FusepipeError as error:
        return failed_clip(entry, error, retry=not isinstance(error, _PERMANENT))
    except OSError as error:
        return failed_clip(entry, write_error(f"{error.filename or entry.output}: {error.strerror}", error), retry=True)
    except Exception as error:  # noqa: BLE001 - a defect that one clip uncovers does not concern the others
        engine.close()  # whatever state it is in
        return failed_clip(entry, FusepipeError(f"{type(error).__name__}: {error}"), retry=True)


def failed_clip(entry: BatchEntry, error: FusepipeError, *, retry: bool) -> ClipResult:
    """The result of a clip that ended with an error; secrets are hidden."""
    text = "; ".join(message_lines(error)).removeprefix(f"{entry.rig.name}: ")
    # the unfinished file is removed: name the output that it was to become
    place = PurePosixPath(entry.output).parent.as_posix()
    text = _UNFINISHED.sub("" if place == "." else f"{place}/", _KEPT.sub("", text))
    part = entry.part
    if part is not None and part.index == FIRST_PASS:
        text = f"following the scene for its segments: {text}"
    elif part is not None and part.index is not None:
        text = f"segment {part.index + 1} of {len(part.plan.sections)}: {text}"
    return ClipResult(
        entry.row,
        entry.output,
        "failed",
        task=entry.task,
        error=text,
        error_type=type(error).__name__,
        exit_code=error.exit_code,
        retry=retry,
        disk_full=isinstance(error, DiskFullError),
    )


def _fused(job: ClipJob, engine: KeptEngine) -> ClipResult:
    entry, out = job.entry, job.out
    try:
        made = made_from(entry)
    except OSError as error:
        raise SourceError(f"{error.filename}: {(error.strerror or 'cannot be read').lower()}") from error
    record = read_record(out, entry.output)
    if record is not None and is_finished(out, record, made):
        return ClipResult(entry.row, entry.output, "skipped", record.figures)
    check_unclaimed(out, entry, overwrite=job.overwrite)
    plan, reason = _plan(job, made)
    if plan is not None:
        return ClipResult(entry.row, entry.output, "split", plan=plan)
    if entry.part is not None and entry.part.index == FIRST_PASS:
        plan = find_handovers(entry, entry.part.plan, segments_folder(out, entry.output))
        return ClipResult(entry.row, entry.output, "finished", plan=plan, task=entry.task)
    work = work_folder(out, secrets.token_hex(8))
    try:
        if entry.part is not None and entry.part.index is not None:
            new = fuse_segment(_split_clip(job, entry.part, made), entry.part.index, work, engine)
            return ClipResult(entry.row, entry.output, "finished" if new else "skipped", task=entry.task)
        figures = _made(job, made, work, engine, reason)
        if record is not None and record.made_from == made and (out / entry.output).exists():
            figures["warnings"].append(_CHANGED)
        publish_output(work, out, entry, made, figures)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    remove_segments(out, entry.output)
    return ClipResult(entry.row, entry.output, "finished", figures)


def _split_clip(job: ClipJob, part: ClipPart, made: str) -> SplitClip:
    return SplitClip(job.entry, part.plan, job.out, made, job.metrics)


def _plan(job: ClipJob, made: str) -> tuple[SegmentPlan | None, str]:
    """How the clip is split now; else why it is not though that was asked for."""
    if job.segments is None or job.entry.part is not None:
        return None, ""
    try:
        return plan_segments(job.entry, job.segments, made, scored=bool(job.metrics)), ""
    except CannotSplitError as error:
        return None, str(error)


def _made(job: ClipJob, made: str, work: Path, engine: KeptEngine, reason: str) -> dict[str, Any]:
    """Makes the output in the folder ``work``, joined of segments or, for a ``reason`` if any, as a whole."""
    entry = job.entry
    if entry.part is not None:
        try:
            return join_clip(_split_clip(job, entry.part, made), work, strict=job.strict)
        except CannotSplitError as error:
            reason = str(error)
            shutil.rmtree(work)
            work.mkdir()
    started_s = time.monotonic()
    sample = ClipMetrics(job.metrics) if job.metrics else None
    report = _run(entry, work, engine, sample, strict=job.strict)
    figures = _figures(report, time.monotonic() - started_s)
    if sample is not None:
        figures["metrics"] = sample.scores()
    if reason:
        figures["warnings"].append(f"fused as a whole, not in segments: {reason}")
    return figures


def _run(entry: BatchEntry, work: Path, engine: KeptEngine, sample: ClipMetrics | None, *, strict: bool) -> RunReport:
    """Fuses the clip into the folder ``work``: the same run as that of ``fusepipe run`` and ``fusepipe fuse``."""
    rig, sinks = with_output(entry, work)
    with TemporaryDirectory(prefix="fusepipe-batch-") as copies:
        rig = with_local_inputs(rig, entry.remote, Path(copies))
        fuser = engine.borrow(rig.fusion)
        # an unfinished output is removed: only a complete one has to be on the disk
        return Pipeline(rig, strict=strict, sinks=sinks, fuser=fuser, on_frame=sample, synced=False).run()


def with_output(entry: BatchEntry, folder: Path) -> tuple[Rig, list[Sink] | None]:
    """The rig with the sink that writes the output into ``folder``; or that sink, for one image."""
    path = folder / Path(entry.output).name
    if entry.kind == "image":
        return entry.rig, [ImageFileSink(path)]
    sink: SinkConfig
    if entry.kind == "video":
        sink = FileSink.model_validate({**entry.sink, "file": str(path).replace("%", "%%")})
    else:
        sink = ImagesSink.model_validate({**entry.sink, "images": f"{path}/"})
    return entry.rig.model_copy(update={"sinks": (sink,)}), None


def _figures(report: RunReport, seconds: float) -> dict[str, Any]:
    """The figures of a run that the report of the batch has."""
    return {
        "seconds": round(seconds, 3),
        "pairs": report.pairs,
        "read": report.read,
        "skipped": report.skipped,
        "engine": report.engine,
        "warnings": [
            *report.warnings,
            *unreadable_counts(report.skipped),
            *([report.shortfall] if report.shortfall else []),
        ],
    }
