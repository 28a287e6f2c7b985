"""Which task is next: clips in their order, then those that are tried again after a back-off. Pure; time is passed in.

A clip that is split has a task for each segment, which go before other clips, and one that joins them. Where its scene
is followed, another one does that, and each segment waits for what it begins with.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fusepipe.core.units import S
from fusepipe.pipeline.backoff import Backoff, BackoffPolicy
from fusepipe.workflows.batch.clip_job import ClipResult
from fusepipe.workflows.batch.entries import BatchEntry
from fusepipe.workflows.batch.segment_plan import FIRST_PASS, ClipPart, Handover, SegmentPlan

CLIP = BackoffPolicy(first_ns=S, cap_ns=60 * S)


@dataclass(slots=True)
class _SplitClip:
    """A clip that is fused in segments: tasks that have not ended, and the first failure of one.

    ``waiting``: the index of the first section that waits for what it begins with; with all after it. ``kept``: the
    number of segments that an earlier run has fused.
    """

    entry: BatchEntry
    plan: SegmentPlan
    open: set[str]
    waiting: int
    failure: ClipResult | None = None
    kept: int = 0


class ClipQueue:
    """The clips that are waiting, running or ended. Each task is tried at most ``1 + retries`` times.

    ``chance`` gives numbers from 0 to 1 for the jitter of the back-off.
    """

    def __init__(self, entries: Sequence[BatchEntry], retries: int, chance: Callable[[], float]) -> None:
        self._fresh = deque(entries)
        self._parts: deque[BatchEntry] = deque()  # of clips that are split
        self._entries = {entry.task: entry for entry in entries}
        self._retries, self._chance = retries, chance
        self._again: list[tuple[float, str]] = []  # a heap of (when it is due, task)
        self._failures: dict[str, int] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._split: dict[str, _SplitClip] = {}  # by output
        self._segments = self._ended_segments = 0
        self._clips = len(entries)
        self.results: dict[str, ClipResult] = {}
        """By output, those of clips that have ended."""

    @property
    def total(self) -> int:
        return self._clips

    @property
    def done(self) -> bool:
        """Whether every clip has ended."""
        return len(self.results) == self._clips

    @property
    def progress(self) -> tuple[int, int]:
        """The numbers of ended clips and segments, and of all."""
        return len(self.results) + self._ended_segments, self._clips + self._segments

    @property
    def fresh(self) -> int:
        """The number of clips that have not been started."""
        return len(self._fresh)

    def next(self, now_s: float) -> BatchEntry | None:
        """A task to start now; ``None`` while all others run or wait for their back-off."""
        if self._again and self._again[0][0] <= now_s:
            return self._entries[heapq.heappop(self._again)[1]]
        if self._parts:
            return self._parts.popleft()
        return self._fresh.popleft() if self._fresh else None

    def waiting(self) -> list[tuple[BatchEntry, SegmentPlan, int]]:
        """Of each clip, its plan and the index of the first section that waits for what it begins with."""
        clips = [clip for clip in self._split.values() if clip.waiting < len(clip.plan.sections)]
        return [(clip.entry, clip.plan, clip.waiting) for clip in clips if clip.failure is None]

    def begin_segment(self, output: str, handover: Handover) -> None:
        """Lets the first section of a clip that :meth:`waiting` gave be fused, with what it begins with."""
        clip = self._split[output]
        clip.plan = clip.plan.with_handover(clip.waiting, handover)
        self._add_segment(clip, clip.waiting)
        clip.waiting += 1

    def note(self, result: ClipResult, now_s: float) -> bool:
        """Takes the result of an attempt; returns whether the task has ended, with it."""
        if result.plan is not None and not result.task:
            self._split_clip(self._entries[result.output], result.plan)
            return True
        task = result.task or result.output
        failures = self._failures.get(task, 0)
        if result.status == "failed":
            failures += 1
            self._failures[task] = failures
            if result.retry and failures <= self._retries:
                wait_ns = self._backoffs.setdefault(task, Backoff(CLIP)).wait_ns(self._chance())
                heapq.heappush(self._again, (now_s + wait_ns / S, task))
                return False
        attempts = failures if result.status == "failed" else failures + 1
        result = replace(result, attempts=attempts)
        if task == result.output:
            clip = self._split.get(task)
            if clip is not None and "segments" in result.figures:
                result = replace(result, figures={**result.figures, "segments_kept": clip.kept})
            self.results[task] = result
        else:
            self._end_segment(task, result)
        return True

    def ended(self) -> list[ClipResult]:
        """The results of clips so far, in the order of the manifest."""
        return sorted(self.results.values(), key=lambda result: result.row)

    def _split_clip(self, entry: BatchEntry, plan: SegmentPlan) -> None:
        indices = [*([FIRST_PASS] if plan.first_pass else []), *range(len(plan.sections))]
        parts = [replace(entry, part=ClipPart(plan, index)) for index in indices]
        ready = parts[:2] if plan.first_pass else parts  # the first section begins with nothing
        self._entries |= {part.task: part for part in parts}
        waiting = 1 if plan.first_pass else len(plan.sections)
        self._split[entry.output] = _SplitClip(entry, plan, {part.task for part in parts}, waiting)
        self._segments += len(parts)
        self._parts.extendleft(reversed(ready))

    def _add_segment(self, clip: _SplitClip, index: int) -> None:
        segment = replace(clip.entry, part=ClipPart(clip.plan, index))
        self._entries[segment.task] = segment
        self._parts.append(segment)

    def _end_segment(self, task: str, result: ClipResult) -> None:
        """Joins a clip whose segments are all finished; one of which a segment failed ends when no other runs."""
        clip = self._split[result.output]
        before = len(clip.open)
        clip.open.discard(task)
        if result.plan is not None:
            self._end_first_pass(clip, result.plan)
        clip.kept += result.status == "skipped"
        if result.status == "failed":
            clip.failure = clip.failure or result
        if clip.failure is not None or clip.plan.problem:
            self._drop_waiting(clip)
        self._ended_segments += before - len(clip.open)
        if clip.open:
            return
        if clip.failure is not None:
            self.results[result.output] = replace(clip.failure, task="")
            return
        joined = replace(clip.entry, part=ClipPart(clip.plan, None))
        self._entries[joined.task] = joined
        self._parts.appendleft(joined)

    def _end_first_pass(self, clip: _SplitClip, plan: SegmentPlan) -> None:
        """Takes what the first pass has found; segments that were still waiting begin."""
        clip.plan = plan
        while clip.waiting < len(plan.sections) and not plan.problem:
            self._add_segment(clip, clip.waiting)
            clip.waiting += 1

    def _drop_waiting(self, clip: _SplitClip) -> None:
        """Removes the tasks of a clip that do not run now."""
        waiting = {entry.task for entry in self._parts} | {task for _, task in self._again}
        for index in range(clip.waiting, len(clip.plan.sections)):
            waiting.add(replace(clip.entry, part=ClipPart(clip.plan, index)).task)
        clip.waiting = len(clip.plan.sections)
        self._parts = deque(entry for entry in self._parts if entry.task not in clip.open)
        self._again = [(due_s, task) for due_s, task in self._again if task not in clip.open]
        heapq.heapify(self._again)
        clip.open -= waiting
