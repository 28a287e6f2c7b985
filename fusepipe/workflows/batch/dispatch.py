"""The process that a batch is started in: gives clips to workers until all have ended, and says how that went."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fusepipe.core.errors import DiskFullError, FusepipeError, Interrupted, SinkError
from fusepipe.core.files import why_unwritable
from fusepipe.core.machine import usable_cores
from fusepipe.core.signal_handlers import signal_handler
from fusepipe.workflows.batch.clip_job import ClipJob, ClipResult
from fusepipe.workflows.batch.clip_queue import ClipQueue
from fusepipe.workflows.batch.entries import STATE_FOLDER, BatchEntry
from fusepipe.workflows.batch.local_pool import LocalPool, WorkerPool
from fusepipe.workflows.batch.records import remove_unfinished
from fusepipe.workflows.batch.segment_files import read_handover, segments_folder
from fusepipe.workflows.batch.segment_plan import MAX_SEGMENTS, MIN_CORES, SegmentChoice

log = logging.getLogger(__name__)

POLL_S = 0.2  # how soon a signal is noticed, and a clip whose back-off has ended is started
LAST_S = 0.2  # for the result of a clip whose output has its name already


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """``out``: the output folder. ``workers``: ``None`` for one a core. ``timeout_s``: of one attempt at a clip.

    ``overwrite`` replaces outputs that no batch has written; ``strict``: a clip of which under half of the possible
    pairs were fused has failed. ``ray``: the address of a cluster, see :class:`RayPool`.
    ``metrics``: those that each clip is scored with, see :class:`ClipMetrics`.
    ``segments``: how long clips are split; ``None``: not at all.
    """

    out: Path
    workers: int | None = None
    retries: int = 2
    timeout_s: float = 86400.0
    overwrite: bool = False
    strict: bool = False
    ray: str | None = None
    metrics: tuple[str, ...] = ()
    segments: SegmentChoice | None = None


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """How a batch ended. ``results`` in the order of the manifest; ``error`` is what stopped it before its end."""

    results: Sequence[ClipResult]
    total: int
    seconds: float
    workers: int
    interrupted: bool = False
    error: FusepipeError | None = None

    @property
    def failed(self) -> list[ClipResult]:
        """The clips that failed in all their attempts."""
        return [result for result in self.results if result.status == "failed"]

    @property
    def exit_code(self) -> int:
        """130 when interrupted, that of what stopped it, else that of the first clip that failed, else 0."""
        if self.interrupted:
            return Interrupted.exit_code
        if self.error is not None:
            return self.error.exit_code
        return self.failed[0].exit_code if self.failed else 0

    def count(self, status: str) -> int:
        """The number of clips with this status."""
        return sum(result.status == status for result in self.results)


def run_batch(
    entries: Sequence[BatchEntry], options: BatchOptions, progress: Callable[[int, int], None]
) -> BatchOutcome:
    """Fuses the clips that are not finished yet; ``progress`` gets the numbers of ended clips and segments, and of all.

    Ctrl-C and SIGTERM end it: finished outputs stay, unfinished ones are removed. Raises :class:`SinkError` for an
    output folder that cannot be written, or that another batch is writing.
    """
    out = options.out.absolute()
    if problem := why_unwritable(out / "output"):
        raise SinkError(f"{options.out}: {problem}")
    try:
        (out / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{options.out}: cannot be created: {error.strerror}") from error
    signals: list[int] = []
    started_s = time.monotonic()
    with _only_batch(out):
        remove_unfinished(out)
        queue = ClipQueue(entries, options.retries, random.random)
        pool = _pool(options, out, len(entries))
        stop: FusepipeError | None = None
        try:  # the handlers come after the pool: Ray installs its own
            with signal_handler([signal.SIGINT, signal.SIGTERM], lambda number, _frame: signals.append(number)):
                _drive(queue, pool, options, out, progress, signals)
        except FusepipeError as error:
            stop = error
        finally:
            pool.close()
            remove_unfinished(out)
    seconds = time.monotonic() - started_s
    return BatchOutcome(queue.ended(), queue.total, seconds, pool.size, bool(signals), stop)


def _pool(options: BatchOptions, out: Path, clips: int) -> WorkerPool:
    if options.segments is not None:  # a few clips may be many segments
        clips = most_tasks(options, clips, int(usable_cores()))
    if options.ray is None:
        return LocalPool(options.workers or max(1, min(int(usable_cores()), clips)), options.timeout_s)
    from fusepipe.workflows.batch.ray_pool import RayPool

    return RayPool(options.ray, options.workers, clips, options.timeout_s, out)


def most_tasks(options: BatchOptions, clips: int, cores: int) -> int:
    """For how many tasks at a time there may be workers, where so many clips are split on so many cores."""
    assert options.segments is not None
    if options.ray not in (None, "local"):
        return clips * MAX_SEGMENTS
    return clips if options.segments.automatic and cores < MIN_CORES else max(clips, cores)


def clip_job(entry: BatchEntry, options: BatchOptions, out: Path, workers: int, waiting: int) -> ClipJob:
    """A task for a pool of so many workers, while so many other clips have not been started."""
    segments = None if options.segments is None else options.segments.for_workers(workers, waiting)
    return ClipJob(entry, out, options.overwrite, options.strict, options.metrics, segments)


def begin_segments(queue: ClipQueue, out: Path) -> None:
    """Lets the segments begin whose handover is in the output folder by now."""
    for entry, plan, first in queue.waiting():
        folder = segments_folder(out, entry.output)
        for index in range(first, len(plan.sections)):
            if (handover := read_handover(folder, index, plan.first_pass)) is None:
                break
            queue.begin_segment(entry.output, handover)


def _drive(
    queue: ClipQueue,
    pool: WorkerPool,
    options: BatchOptions,
    out: Path,
    progress: Callable[[int, int], None],
    signals: Sequence[int],
) -> None:
    """Until all clips have ended, or a signal came; raises :class:`DiskFullError`: other clips would fail as well."""
    while not queue.done and not signals:
        begin_segments(queue, out)
        while pool.idle and (entry := queue.next(time.monotonic())) is not None:
            pool.submit(clip_job(entry, options, out, pool.size, queue.fresh))
        for result in pool.wait(POLL_S):
            if result.disk_full:
                raise DiskFullError(f"{result.error}; finished clips are kept: run the same command again with space")
            if queue.note(result, time.monotonic()):
                progress(*queue.progress)
            else:
                log.warning("%s: %s; trying again", result.output, result.error)
    for result in pool.wait(LAST_S) if signals else ():
        if result.status == "finished":  # as the signal came: its output is there, so the report has it
            queue.note(result, time.monotonic())


@contextmanager
def _only_batch(out: Path) -> Iterator[None]:
    """Holds the lock of the output folder; raises :class:`SinkError` where another batch holds it."""
    path = out / STATE_FOLDER / "lock"
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SinkError(f"{path}: cannot be created: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SinkError(f"{out}: another batch is writing to this folder") from error
        yield
    finally:
        os.close(descriptor)
