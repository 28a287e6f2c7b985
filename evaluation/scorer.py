"""Metrics of many images over several processes: same values and same order as in one."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import cv2

from fusepipe.core.errors import FusepipeError
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.scores import Scores, score_triple


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
        self._pool: ProcessPoolExecutor | None = None
        self._abandoned = False  # work was left unfinished

    def scores(self, triples: Iterable[Triple]) -> Iterator[Scores]:
        """The values of each triple, in their order; only a few triples are held at a time.

        Raises :class:`UsageError` where sizes differ, :class:`FusepipeError` when a process dies.
        """
        if self._jobs == 1:
            for triple in triples:
                yield _score(triple, self._names)
            return
        waiting: deque[Future[Scores]] = deque()
        self._abandoned = True
        try:
            for triple in triples:
                waiting.append(self._processes().submit(_score, triple, self._names))
                if len(waiting) >= 2 * self._jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
            self._abandoned = False
        except BrokenProcessPool as error:
            raise FusepipeError(
                "a process that computes metrics was killed, probably out of memory; try --jobs 1"
            ) from error
        finally:
            for future in waiting:
                future.cancel()

    def _processes(self) -> ProcessPoolExecutor:
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._jobs, mp_context=spawn, initializer=_start_worker)
        return self._pool

    def close(self) -> None:
        """Ends the processes: at once if work was left unfinished, as after Ctrl-C; it may take minutes."""
        if self._pool is not None:
            if self._abandoned:
                for process in list((self._pool._processes or {}).values()):
                    process.terminate()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _start_worker() -> None:
    # one process per core: OpenCV's threads would only compete
    cv2.setNumThreads(1)
    # Ctrl-C reaches the whole process group; only the parent handles it
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _score(triple: Triple, names: Sequence[str]) -> Scores:
    return score_triple(triple.ir, triple.vis, triple.fused, names)
