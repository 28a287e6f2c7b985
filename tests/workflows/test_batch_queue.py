"""The queue of a batch: order, back-off, and the end of clips that always fail; without a clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fusepipe.core.errors import FusepipeError
from fusepipe.workflows.batch.clip_job import ClipResult, failed_clip
from fusepipe.workflows.batch.clip_queue import ClipQueue
from fusepipe.workflows.batch.dispatch import BatchOptions, clip_job, most_tasks
from fusepipe.workflows.batch.entries import BatchEntry, read_entries
from fusepipe.workflows.batch.rows import ManifestRow
from fusepipe.workflows.batch.segment_plan import (
    AUTO_NS,
    BUSY,
    FIRST_PASS,
    Handover,
    Section,
    SegmentChoice,
    SegmentPlan,
)


def three() -> list[BatchEntry]:
    rows = [ManifestRow(n, {"infrared": "ir.mkv", "visible": "vis.mkv", "output": f"{n}.mkv"}) for n in (1, 2, 3)]
    return read_entries(rows, "clips.csv", Path("out"))


def finished(entry: BatchEntry) -> ClipResult:
    return ClipResult(entry.row, entry.output, "finished")


def test_a_failed_clip_waits_longer_each_time_and_is_set_aside_in_the_end() -> None:
    first, second, third = three()
    queue = ClipQueue([first, second, third], 2, lambda: 0.0)
    failure = failed_clip(first, FusepipeError("the worker died"), retry=True)
    assert queue.next(0.0) is first and not queue.note(failure, 0.0)
    assert (queue.next(0.5), queue.next(1.0), queue.next(1.0)) == (second, first, third)
    assert not queue.note(failure, 10.0)
    assert queue.next(11.9) is None and queue.next(12.0) is first
    assert queue.note(failure, 13.0) and not queue.done
    assert queue.results[first.output] == replace(failure, attempts=3)
    assert queue.note(finished(third), 14.0) and queue.note(finished(second), 15.0) and queue.done
    assert [result.row for result in queue.ended()] == [1, 2, 3]


def test_an_error_that_does_not_go_away_is_not_tried_again() -> None:
    first, second, _ = three()
    queue = ClipQueue([first, second], 2, lambda: 0.0)
    assert queue.next(0.0) is first
    assert queue.note(failed_clip(first, FusepipeError("no such file"), retry=False), 0.0)
    assert queue.results[first.output].attempts == 1


def test_attempts_count_the_successful_one() -> None:
    first, _, _ = three()
    queue = ClipQueue([first], 2, lambda: 0.0)
    assert queue.next(0.0) is first
    assert not queue.note(failed_clip(first, FusepipeError("x"), retry=True), 0.0)
    assert queue.next(5.0) is first and queue.note(finished(first), 6.0)
    assert queue.results[first.output].attempts == 2


def planned(entry: BatchEntry, segments: int) -> ClipResult:
    return ClipResult(entry.row, entry.output, "split", plan=SegmentPlan((Section(),) * segments, {}, None))


def test_segments_of_a_clip_go_before_other_clips_and_are_joined_in_the_end() -> None:
    first, second, _ = three()
    queue = ClipQueue([first, second], 0, lambda: 0.0)
    assert queue.next(0.0) is first and queue.note(planned(first, 2), 0.0)
    parts = [queue.next(0.0), queue.next(0.0)]
    assert [part.part.index for part in parts if part and part.part] == [0, 1] and queue.progress == (0, 4)
    assert queue.next(0.0) is second
    for part in reversed(parts):
        assert part is not None and queue.note(replace(finished(part), task=part.task), 0.0)
    assert queue.progress == (2, 4) and not queue.results
    joining = queue.next(0.0)
    assert joining is not None and joining.output == first.output
    assert joining.part is not None and joining.part.index is None
    assert queue.note(finished(joining), 0.0) and queue.note(finished(second), 0.0) and queue.done
    assert queue.progress == (4, 4) and [result.row for result in queue.ended()] == [1, 2]


def test_a_segment_that_fails_ends_its_clip_after_those_that_run() -> None:
    first, second, _ = three()
    queue = ClipQueue([first, second], 1, lambda: 0.0)
    assert queue.next(0.0) is first and queue.note(planned(first, 4), 0.0)
    running, other = queue.next(0.0), queue.next(0.0)
    assert running is not None and other is not None
    assert not queue.note(failed_clip(other, FusepipeError("x"), retry=True), 0.0)
    assert queue.note(failed_clip(running, FusepipeError("no such file"), retry=False), 0.0)
    assert queue.results[first.output].error == "segment 1 of 4: no such file"
    assert queue.next(99.0) is second and queue.next(99.0) is None, "the others of the clip are not started"
    assert queue.note(finished(second), 99.0) and queue.done and queue.progress == (6, 6)


def test_a_clip_waits_for_its_running_segments() -> None:
    first, _, _ = three()
    queue = ClipQueue([first], 0, lambda: 0.0)
    assert queue.next(0.0) is first and queue.note(planned(first, 2), 0.0)
    one, other = queue.next(0.0), queue.next(0.0)
    assert one is not None and other is not None
    assert queue.note(failed_clip(one, FusepipeError("x"), retry=False), 0.0) and not queue.done
    assert queue.note(replace(finished(other), task=other.task), 0.0) and queue.done
    assert queue.results[first.output].status == "failed"


def followed(entry: BatchEntry, segments: int) -> ClipResult:
    return ClipResult(
        entry.row, entry.output, "split", plan=SegmentPlan((Section(),) * segments, {}, None, first_pass="hash")
    )


def test_segments_wait_for_what_they_begin_with_and_other_clips_go_on() -> None:
    first, second, _ = three()
    queue = ClipQueue([first, second], 0, lambda: 0.0)
    assert queue.next(0.0) is first and queue.note(followed(first, 3), 0.0) and queue.progress == (0, 6)
    scan, opening = queue.next(0.0), queue.next(0.0)
    assert scan is not None and scan.part is not None and scan.part.index == FIRST_PASS
    assert opening is not None and opening.part is not None and opening.part.index == 0
    [(waits, plan, index)] = queue.waiting()
    assert (waits.output, index) == (first.output, 1)
    queue.begin_segment(first.output, Handover("state", "begins"))
    middle = queue.next(0.0)
    assert middle is not None and middle.part is not None and middle.part.index == 1
    assert middle.part.plan.sections[1].handover.state == "state" and queue.next(0.0) is second
    found = plan.with_handover(1, Handover("state", "begins")).with_handover(2, Handover("last", "begins"))
    assert queue.note(replace(finished(scan), task=scan.task, plan=found), 0.0) and not queue.waiting()
    last = queue.next(0.0)
    assert last is not None and last.part is not None and last.part.plan.sections[2].handover.state == "last"
    for part in (opening, middle, last):
        assert queue.note(replace(finished(part), task=part.task), 0.0)
    joining = queue.next(0.0)
    assert joining is not None and joining.part is not None and joining.part.index is None
    assert joining.part.plan == found


@pytest.mark.parametrize("problem", ["", "frame 7 cannot be decoded by itself"], ids=["fails", "problem"])
def test_after_a_first_pass_that_fails_no_segment_is_started(problem: str) -> None:
    first, _, _ = three()
    queue = ClipQueue([first], 0, lambda: 0.0)
    assert queue.next(0.0) is first and queue.note(followed(first, 3), 0.0)
    scan, opening = queue.next(0.0), queue.next(0.0)
    assert scan is not None and scan.part is not None and opening is not None
    if problem:
        ended = replace(finished(scan), task=scan.task, plan=replace(scan.part.plan, problem=problem))
    else:
        ended = failed_clip(scan, FusepipeError("no such file"), retry=False)
    assert queue.note(ended, 0.0) and not queue.waiting() and queue.next(0.0) is None
    assert queue.note(replace(finished(opening), task=opening.task), 0.0)
    if problem:
        joining = queue.next(0.0)
        assert joining is not None and joining.part is not None and joining.part.plan.problem == problem
    else:
        assert queue.done and queue.results[first.output].error == "following the scene for its segments: no such file"


def test_tasks_are_split_by_how_many_clips_have_not_been_started() -> None:
    first, second, third = three()
    queue = ClipQueue([first, second, third], 0, lambda: 0.0)
    options = BatchOptions(Path("out"), segments=SegmentChoice())
    assert queue.next(0.0) is first and queue.fresh == 2
    refused = clip_job(first, options, Path("out"), 2, queue.fresh)
    assert refused.segments is not None and refused.segments.refused == BUSY
    assert queue.next(0.0) is second
    split = clip_job(second, options, Path("out"), 2, queue.fresh)
    assert split.segments == SegmentChoice(2, None, AUTO_NS)
    assert queue.note(planned(first, 3), 0.0) and queue.fresh == 1, "segments are no clips"


@pytest.mark.parametrize(
    ("choice", "ray", "cores", "tasks"),
    [
        (SegmentChoice(), None, 2, 1),
        (SegmentChoice(), "local", 2, 1),
        (SegmentChoice(), None, 4, 4),
        (SegmentChoice(6), None, 2, 2),
        (SegmentChoice(length_ns=10**10), None, 2, 2),
        (SegmentChoice(), "10.0.0.5:6379", 2, 1000),
    ],
)
def test_one_clip_has_several_workers_where_that_is_faster(
    choice: SegmentChoice, ray: str | None, cores: int, tasks: int
) -> None:
    assert most_tasks(BatchOptions(Path("out"), ray=ray, segments=choice), 1, cores) == tasks
