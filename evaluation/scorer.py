"""Metrics of many images over several processes: same values and same order as in one."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue

import cv2

from fusepipe.core.errors import FusepipeError
from fusepipe.core.frames import Luma8
from fusepipe.core.parent_process import end_with_parent
from fusepipe.evaluation.scores import Scores, score_triple

_END_TIMEOUT_S = 10.0  # for a process without work to end by itself


@dataclass(frozen=True, slots=True, eq=False)
class Triple:
    """HxW uint8 luma of the two sources and the fused image, and their name."""

    name: str
    ir: Luma8
    vis: Luma8
    fused: Luma8


class Scorer:
    """Scores triples with ``jobs`` processes, which are started at the first use and kept until :meth:`close`.

    Processes are spawned, not forked: a fork would copy the locks of running inference threads.
    """

    def __init__(self, names: Sequence[str], jobs: int = 1) -> None:
        self._names = tuple(names)
        self._jobs = max(1, jobs)
        self._pool: _Processes | None = None
        self._abandoned = False  # work was left unfinished

    def scores(self, triples: Iterable[Triple]) -> Iterator[Scores]:
        """The values of each triple, in their order; only a few triples are held at a time.

        Raises :class:`UsageError` where sizes differ, :class:`FusepipeError` when a process dies.
        """
        if self._jobs == 1:
            for triple in triples:
                yield _score(triple, self._names)
            return
        if self._pool is None:
            self._pool = _Processes(self._jobs, self._names)
        waiting: deque[Future[Scores]] = deque()
        self._abandoned = True
        try:
            for triple in triples:
                waiting.append(self._pool.submit(triple))
                if len(waiting) >= 2 * self._jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
            self._abandoned = False
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Ends the processes: at once if work was left unfinished, as after Ctrl-C; it may take minutes."""
        if self._pool is not None:
            self._pool.close(at_once=self._abandoned)
            self._pool = None


class _Processes:
    """Worker processes, each with a pipe of its own and a thread that waits for its answers.

    ``concurrent.futures.ProcessPoolExecutor`` has one queue for all: a worker that is killed while it reads leaves the
    queue locked, or its writer waiting for a reader, and the end of the pool may then never come.
    """

    def __init__(self, jobs: int, names: Sequence[str]) -> None:
        self._names = names
        self._context = multiprocessing.get_context("spawn")
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="scorer")
        self._jobs = jobs
        self._workers: list[_Worker] = []
        self._idle: SimpleQueue[_Worker] = SimpleQueue()

    def submit(self, triple: Triple) -> Future[Scores]:
        if len(self._workers) < self._jobs:
            worker = _Worker(self._context, self._names)
            self._workers.append(worker)
            self._idle.put(worker)
        return self._threads.submit(self._score, triple)

    def _score(self, triple: Triple) -> Scores:
        worker = self._idle.get_nowait()  # there is never a thread more than workers
        try:
            return worker.score(triple)
        finally:
            self._idle.put(worker)

    def close(self, *, at_once: bool) -> None:
        """Ends all processes and threads; work that is under way is lost if ``at_once``, else waited for."""
        if at_once:
            for worker in self._workers:
                worker.process.kill()  # its thread sees the end of the pipe
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()


class _Worker:
    """One process that scores triples, one after another."""

    def __init__(self, context: multiprocessing.context.SpawnContext, names: Sequence[str]) -> None:
        self._connection, its = context.Pipe()
        self.process = context.Process(target=_work, args=(its, names, os.getpid()), name="scorer")
        self.process.start()
        its.close()

    def score(self, triple: Triple) -> Scores:
        try:
            self._connection.send(triple)
            answer: Scores | Exception = self._connection.recv()
        except (EOFError, OSError) as error:
            raise FusepipeError(
                "a process that computes metrics was killed, probably out of memory; try --jobs 1"
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Ends the process, which has nothing to do: by the end of its pipe, or else by force."""
        self._connection.close()
        self.process.join(_END_TIMEOUT_S)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def _work(connection: Connection, names: Sequence[str], parent: int) -> None:
    """The main function of a process: triples until the pipe ends, or the process ``parent``."""
    end_with_parent(parent)  # an image may take minutes
    # one process per core: OpenCV's threads would only compete
    cv2.setNumThreads(1)
    # Ctrl-C reaches the whole process group; only the parent handles it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with connection:
        while True:
            try:
                connection.send(_score_or_error(connection.recv(), names))
            except (EOFError, OSError):  # of the pipe
                return


def _score_or_error(triple: Triple, names: Sequence[str]) -> Scores | Exception:
    try:
        return _score(triple, names)
    except Exception as error:  # noqa: BLE001 - raised by the parent, as without processes
        sent = error if _survives_pickling(error) else FusepipeError(f"{triple.name}: {type(error).__name__}: {error}")
        sent.add_note(traceback.format_exc())  # is not sent with it
        return sent


def _survives_pickling(error: Exception) -> bool:
    """Whether the parent gets this error: some refuse to be pickled, others are pickled and cannot be made again."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what was just written
    except Exception:  # noqa: BLE001 - whatever the class of the error raises
        return False
    return True


def _score(triple: Triple, names: Sequence[str]) -> Scores:
    return score_triple(triple.ir, triple.vis, triple.fused, names)
