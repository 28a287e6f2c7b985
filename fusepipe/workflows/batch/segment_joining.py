"""Joins the segments of a clip that is split to its output, once all are fused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from fusepipe.core.errors import FusepipeError
from fusepipe.core.frames import PairState
from fusepipe.pipeline.sinks.files.joined_sidecar import join_sidecars
from fusepipe.pipeline.sinks.files.joined_video import SegmentFile, UnlikeSegmentsError, join_segments
from fusepipe.rig.report.shortfall import shortfall, unreadable_counts
from fusepipe.workflows.batch.clip_metrics import mean_of_pairs
from fusepipe.workflows.batch.segment_files import SEGMENT, FinishedSegment, read_segment
from fusepipe.workflows.batch.segment_job import SplitClip
from fusepipe.workflows.batch.segment_plan import CannotSplitError
from fusepipe.workflows.batch.split_check import segment_sink


def join_clip(clip: SplitClip, work: Path, *, strict: bool) -> dict[str, Any]:
    """Joins the segments of a clip to its output in the folder ``work``; returns the figures of the clip.

    Raises :class:`CannotSplitError` where they do not fit together, :class:`FusepipeError` where one is missing or
    damaged, or with ``strict`` where under half of the possible pairs were fused.
    """
    started_s = time.monotonic()
    plan = clip.plan
    if plan.problem:
        raise CannotSplitError(plan.problem)
    segments = []
    for index in range(len(plan.sections)):
        segment = read_segment(clip.folder, index, clip.made_from(index))
        if segment is None:
            raise FusepipeError(f"segment {index + 1} was damaged or removed; the same command fuses it again")
        segments.append(segment)
    _check_seams(clip, segments)
    states: Counter[str] = Counter()
    for segment in segments:
        states.update(segment.states or {})
    if not states[PairState.FUSED]:
        raise CannotSplitError("no pair was fused")
    skipped = _unreadable(segments)
    short = shortfall(states, {str(band): count for band, count in plan.read.items()}, skipped, whole=True)
    if strict and short:
        raise FusepipeError(short)
    _join_files(clip, segments, work / Path(clip.entry.output).name)
    figures = {
        "seconds": round(sum(segment.seconds for segment in segments) + time.monotonic() - started_s, 3),
        "pairs": dict(states),
        "read": {str(band): count for band, count in plan.read.items()},
        "segments": len(segments),
        "engine": segments[0].engine,
        "warnings": [*_warnings(segments), *unreadable_counts(skipped), *([short] if short else [])],
    }
    if clip.metrics:
        figures["metrics"] = mean_of_pairs([row for segment in segments for row in segment.scores], clip.metrics)
    return figures


def _warnings(segments: Sequence[FinishedSegment]) -> list[str]:
    """Those of the whole clip, whose infrared counts are checked once."""
    texts, checked = [], False
    for segment in segments:
        texts += [text for text in segment.warnings if not (checked and text == segment.counts_warning)]
        checked |= segment.counts_checked
    return list(dict.fromkeys(texts))


def _unreadable(segments: Sequence[FinishedSegment]) -> dict[str, int]:
    """The unreadable frames of the clip, by reason. Segments read on beyond their ends: each frame counts once."""
    numbers: dict[str, set[int]] = {}
    for segment in segments:
        for band, found in (segment.unreadable or {}).items():
            numbers.setdefault(band, set()).update(found)
    return {f"unreadable {band}": len(found) for band, found in numbers.items() if found}


def _join_files(clip: SplitClip, segments: Sequence[FinishedSegment], target: Path) -> None:
    plan, sink = clip.plan, segment_sink(clip.entry, SEGMENT)
    if sink.content == "infrared" and not segments[0].file:
        raise CannotSplitError("its first segment has no infrared frames, and so no time to begin with")
    made = [segment for segment in segments if segment.file]
    files = [SegmentFile(clip.folder / segment.file, segment.captures, segment.track) for segment in made]
    try:
        times_s = join_segments(
            files,
            target,
            fps=plan.fps if sink.content == "fused" else plan.infrared_fps,
            flush_ns=sink.flush_ns,
            origin_ns=made[0].origin_ns,
            track_fps=plan.infrared_fps,
        )
    except UnlikeSegmentsError as error:
        raise CannotSplitError(str(error)) from error
    if sink.with_sidecar:
        parts = [clip.folder / segment.sidecar for segment in made if segment.sidecar]
        join_sidecars(parts, target, times_s, every_pair=sink.content == "fused")


def _check_seams(clip: SplitClip, segments: Sequence[FinishedSegment]) -> None:
    """Raises :class:`CannotSplitError` where two segments made different frames of the pair between them.

    Also where one did not end with what the next one has begun with.
    """
    sections, fused = clip.plan.sections, 0
    for segment in segments:
        if segment.problem:
            raise CannotSplitError(segment.problem)
    for (earlier, later), section in zip(pairwise(segments), sections[1:], strict=True):
        reached = earlier.last_ns is not None and earlier.last_ns == section.before_ns
        if later.before != (earlier.last if reached else ""):
            raise CannotSplitError(f"two segments differ in the frame at {(section.before_ns or 0) / 1e9:.3f} s")
        if earlier.ends != section.handover.begins:
            raise CannotSplitError(
                f"the scene before {(section.begin_ns or 0) / 1e9:.3f} s was followed differently: is a frame damaged?"
            )
        fused += (earlier.states or {}).get(PairState.FUSED, 0)
        if clip.metrics and fused != section.handover.fused:
            raise CannotSplitError("its pairs were counted differently: is a frame damaged?")
