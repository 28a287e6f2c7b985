"""Which clip is next: all in their order, then those that are tried again after a back-off. Pure; time is passed in."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from fusepipe.core.units import S
from fusepipe.pipeline.backoff import Backoff, BackoffPolicy
from fusepipe.workflows.batch.clip_job import ClipResult
from fusepipe.workflows.batch.entries import BatchEntry

CLIP = BackoffPolicy(first_ns=S, cap_ns=60 * S)


class ClipQueue:
    """The clips that are waiting, running or ended. A clip is tried at most ``1 + retries`` times.

    ``chance`` gives numbers from 0 to 1 for the jitter of the back-off.
    """

    def __init__(self, entries: Sequence[BatchEntry], retries: int, chance: Callable[[], float]) -> None:
        self._fresh = deque(entries)
        self._entries = {entry.output: entry for entry in entries}
        self._retries, self._chance = retries, chance
        self._again: list[tuple[float, str]] = []  # a heap of (when it is due, output)
        self._failures: dict[str, int] = {}
        self._backoffs: dict[str, Backoff] = {}
        self.results: dict[str, ClipResult] = {}
        """By output, those that have ended."""

    @property
    def total(self) -> int:
        return len(self._entries)

    @property
    def done(self) -> bool:
        """Whether every clip has ended."""
        return len(self.results) == len(self._entries)

    def next(self, now_s: float) -> BatchEntry | None:
        """A clip to start now; ``None`` while all others run or wait for their back-off."""
        if self._again and self._again[0][0] <= now_s:
            return self._entries[heapq.heappop(self._again)[1]]
        return self._fresh.popleft() if self._fresh else None

    def note(self, result: ClipResult, now_s: float) -> bool:
        """Takes the result of an attempt; returns whether the clip has ended, with it."""
        failures = self._failures.get(result.output, 0)
        if result.status == "failed":
            failures += 1
            self._failures[result.output] = failures
            if result.retry and failures <= self._retries:
                wait_ns = self._backoffs.setdefault(result.output, Backoff(CLIP)).wait_ns(self._chance())
                heapq.heappush(self._again, (now_s + wait_ns / S, result.output))
                return False
        attempts = failures if result.status == "failed" else failures + 1
        self.results[result.output] = replace(result, attempts=attempts)
        return True

    def ended(self) -> list[ClipResult]:
        """The results so far, in the order of the manifest."""
        return sorted(self.results.values(), key=lambda result: result.row)
