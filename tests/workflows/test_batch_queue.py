"""The queue of a batch: order, back-off, and the end of clips that always fail; without a clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fusepipe.core.errors import FusepipeError
from fusepipe.workflows.batch.clip_job import ClipResult, failed_clip
from fusepipe.workflows.batch.clip_queue import ClipQueue
from fusepipe.workflows.batch.entries import BatchEntry, read_entries
from fusepipe.workflows.batch.rows import ManifestRow


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
