"""Worker processes on this machine: one clip and one engine each, each on cores of its own.

Processes are spawned, not forked: a fork would copy the locks of running threads. A worker that dies, whatever killed
it, is replaced, and its clip gets a failed result that may be tried again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from fusepipe.core.errors import FusepipeError
from fusepipe.core.parent_process import end_with_parent
from fusepipe.workflows.batch.clip_job import ClipJob, ClipResult, failed_clip, run_clip
from fusepipe.workflows.batch.kept_engine import KeptEngine

STOP_TIMEOUT_S = 5.0


class WorkerPool(Protocol):
    """Workers that fuse clips. One thread calls all methods."""

    @property
    def size(self) -> int:
        """The number of workers."""

    @property
    def idle(self) -> int:
        """How many workers can take a clip now."""

    def submit(self, job: ClipJob) -> None:
        """Gives a clip to an idle worker."""

    def wait(self, timeout_s: float) -> list[ClipResult]:
        """Results, as soon as there are any, at the latest after ``timeout_s``; also of clips whose worker died.

        Raises :class:`FusepipeError` where no worker is left and none can be started.
        """

    def close(self) -> None:
        """Ends the workers at once; what they have not finished is lost."""


class WorkerDiedError(FusepipeError):
    """The process that fused a clip was killed, or ended."""


@dataclass(slots=True)
class _Worker:
    """A process, the clip that it fuses, and since when (monotonic seconds)."""

    process: BaseProcess
    connection: Connection
    cores: Sequence[int]
    job: ClipJob | None = None
    started_s: float = 0.0


class LocalPool:
    """``workers`` processes that share the cores of this one; a clip that takes over ``timeout_s`` has failed.

    Raises :class:`FusepipeError` where the system has no process or file left for all of them.
    """

    def __init__(self, workers: int, timeout_s: float) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._timeout_s = timeout_s
        cores = sorted(os.sched_getaffinity(0))
        shares = [cores[index::workers] or [cores[index % len(cores)]] for index in range(workers)]
        self._workers: list[_Worker] = []
        try:
            for share in shares:
                self._workers.append(self._start(share))
        except FusepipeError:
            self.close()
            raise

    @property
    def size(self) -> int:
        return len(self._workers)

    @property
    def idle(self) -> int:
        return sum(worker.job is None for worker in self._workers)

    def submit(self, job: ClipJob) -> None:
        worker = next(worker for worker in self._workers if worker.job is None)
        worker.job, worker.started_s = job, time.monotonic()
        try:
            worker.connection.send(job)
        except OSError:
            return  # it has died: `wait` sees that

    def wait(self, timeout_s: float) -> list[ClipResult]:
        wait([worker.connection for worker in self._workers if worker.job is not None], timeout_s)
        results = []
        for index, worker in enumerate(self._workers):
            if worker.job is None:
                continue
            if (result := self._result(worker)) is None:
                continue
            results.append(result)
            worker.job = None
            if result.error_type == WorkerDiedError.__name__:
                _end(worker)
                self._workers[index] = self._start(worker.cores)
        return results

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            _end(worker)

    def _start(self, cores: Sequence[int]) -> _Worker:
        try:
            ours, its = self._context.Pipe()
            with its:
                process = self._context.Process(
                    target=_work, args=(its, tuple(cores), os.getpid()), name="batch-worker"
                )
                process.start()
        except OSError as error:
            raise FusepipeError(f"a worker cannot be started: {error.strerror}; try fewer --workers") from error
        return _Worker(process, ours, cores)

    def _result(self, worker: _Worker) -> ClipResult | None:
        """That of the worker's clip, also where it has died or takes too long; ``None`` while it runs."""
        assert worker.job is not None
        try:
            if worker.connection.poll():
                result: ClipResult = worker.connection.recv()
                return result
        except (EOFError, OSError):
            worker.process.join(STOP_TIMEOUT_S)
            return died(worker.job, f"the worker died ({_cause(worker.process.exitcode)}); is there enough memory?")
        if time.monotonic() - worker.started_s > self._timeout_s:
            return died(worker.job, f"was not finished within {self._timeout_s:g} s (--timeout)")
        return None


def died(job: ClipJob, reason: str) -> ClipResult:
    """The result of a clip whose worker is no more; another attempt may help."""
    return failed_clip(job.entry, WorkerDiedError(reason), retry=True)


def _cause(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _end(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.kill()
    worker.process.join(STOP_TIMEOUT_S)


def _work(connection: Connection, cores: Sequence[int], parent: int) -> None:
    """The main function of a worker: clips until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    end_with_parent(parent, signal.SIGKILL)  # it must not go on with a clip without its parent
    limit_cores(cores)
    with connection, KeptEngine() as engine:
        while True:
            try:
                job = connection.recv()
            except (EOFError, OSError):
                return
            connection.send(run_clip(job, engine))


def limit_cores(cores: Sequence[int]) -> None:
    """Binds this process, which has no threads yet, to these cores: engines and codecs start as many threads."""
    import cv2

    os.sched_setaffinity(0, cores)
    cv2.setNumThreads(len(cores))
