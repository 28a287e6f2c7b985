"""One GPU engine shared by several rigs, with their pairs batched: those that arrive during a batch form the next one.

A GPU computes a batch of two in less than twice the time of one, and an engine takes its memory once. Each shared
engine has two threads: one calls the engine and starts as many batches as may be in flight, the other delivers their
results; :mod:`fusepipe.engines.threads` says when they end. Each rig holds a lease, an ordinary
:class:`fusepipe.core.fuser.Fuser`. Engines on a CPU are not shared: there batching saves no time.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from queue import SimpleQueue

from fusepipe.core.errors import EngineError, FusepipeError, UsageError
from fusepipe.core.fuser import EngineTicket, Fuser, FuserBase, FusionBatch, Ticket, as_engine_error
from fusepipe.engines.threads import IDLE_CHECK_S, interpreter_exiting

_LOG = logging.getLogger(__name__)
REQUEST_TIMEOUT_S = 60.0
Shape = tuple[int, int]  # (height, width)
STOP_TIMEOUT_S = 400.0  # longer than any request may take


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A request of the lease ``owner``: a batch to fuse, or else a ``size`` (height, width, pairs) to prepare."""

    owner: object
    ticket: EngineTicket
    size: tuple[int, int, int]
    batch: FusionBatch | None = None
    delivered: Callable[[], None] = lambda: None

    def batches_with(self, other: _Job) -> bool:
        """Whether both requests fit into one batch."""
        if self.batch is None or other.batch is None:
            return False
        mine, its = self.batch, other.batch
        return (
            mine.shape == its.shape
            and mine.infrared[0].shape == its.infrared[0].shape
            and bool(mine.warps) == bool(its.warps)
        )


def _merge(jobs: list[_Job]) -> FusionBatch:
    batches = [job.batch for job in jobs if job.batch is not None]
    if len(batches) == 1:
        return batches[0]
    return FusionBatch(
        [image for batch in batches for image in batch.infrared],
        [image for batch in batches for image in batch.visible],
        [name for batch in batches for name in batch.stream_ids or [""] * len(batch.visible)],
        [warp for batch in batches for warp in batch.warps],
    )


_Started = tuple[Ticket, list[_Job]]


class _SharedEngine:
    """An engine, its two threads and the queue of requests.

    ``users``, and the ``size`` that they prepared (``None`` until then), are guarded by the table's lock.
    """

    def __init__(self, fuser: Fuser) -> None:
        self.fuser, self.users = fuser, 0
        self.size: Shape | None = None
        self._waiting: deque[_Job] = deque()
        self._condition = threading.Condition()
        self._stopped = False
        self._failure: FusepipeError | None = None  # of closing the engine
        self._room = threading.Semaphore(fuser.info.max_in_flight)
        self._started: SimpleQueue[_Started | None] = SimpleQueue()
        name = f"share-{fuser.info.model}"
        self._collector = threading.Thread(target=self._collect, name=f"{name}-results")
        self._thread = threading.Thread(target=self._run, name=name)
        self._collector.start()
        try:
            self._thread.start()
        except RuntimeError:  # the system's limit of threads
            self._started.put(None)
            self._collector.join()
            raise

    def put(self, job: _Job) -> None:
        """Queues a request; raises :class:`EngineError` if the engine has stopped."""
        with self._condition:
            if self._stopped:
                raise EngineError(f"the engine of {self.fuser.info.model!r} has stopped; start the rig again")
            self._waiting.append(job)
            self._condition.notify_all()

    def stop(self) -> None:
        """Waits for the requests in flight, closes the engine and ends both threads."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise EngineError("the GPU does not respond: the thread of a shared engine has not ended")
        if self._failure is not None:
            raise self._failure

    # -- on the threads

    def _run(self) -> None:
        """Starts waiting requests as soon as the engine has room; those that arrive until then join the batch."""
        try:
            while True:
                self._room.acquire()
                jobs = self._next()
                if not jobs:
                    break
                if jobs[0].batch is None:
                    self._prepare(jobs[0])
                else:
                    self._start(jobs)
        finally:
            self._started.put(None)
            self._collector.join()
            try:
                self.fuser.close()
            except FusepipeError as error:
                self._failure = error

    def _collect(self) -> None:
        """Delivers results in the order in which the batches were started."""
        while (started := self._started.get()) is not None:
            self._finish(*started)
            self._room.release()

    def _next(self) -> list[_Job]:
        """The oldest request and those of other rigs that batch with it; none once stopped or at interpreter exit.

        Batches have 1, 2, 4 ... pairs, so that few sizes are allocated. Pairs of one rig are not batched with each
        other: the first would wait for the second.
        """
        with self._condition:
            while not self._waiting and not self._stopped:
                self._condition.wait(IDLE_CHECK_S)
                self._stopped = self._stopped or (not self._waiting and interpreter_exiting())
            if not self._waiting:
                return []
            first = self._waiting[0]
            fitting, pairs, owners = [first], first.size[2], {first.owner}
            for job in list(self._waiting)[1:]:
                room = pairs + job.size[2] <= self.fuser.info.max_batch
                if room and job.owner not in owners and job.batches_with(first):
                    fitting.append(job)
                    pairs += job.size[2]
                    owners.add(job.owner)
            while len(fitting) > 1 and pairs & (pairs - 1):
                pairs -= fitting.pop().size[2]
            for job in fitting:
                self._waiting.remove(job)
            return fitting

    def _prepare(self, job: _Job) -> None:
        try:
            self.fuser.prepare(*job.size)
            job.ticket.deliver([])
        except Exception as error:  # noqa: BLE001 - delivered to the caller; other rigs continue
            _fail([job], error)
        self._room.release()

    def _start(self, jobs: list[_Job]) -> None:
        try:
            self._started.put((self.fuser.submit(_merge(jobs)), jobs))
        except Exception as error:  # noqa: BLE001 - as above
            _fail(jobs, error)
            self._room.release()

    @staticmethod
    def _finish(ticket: Ticket, jobs: list[_Job]) -> None:
        try:
            images = ticket.result()
        except Exception as error:  # noqa: BLE001 - as above
            _fail(jobs, error)
            return
        for job in jobs:
            job.ticket.deliver(images[: job.size[2]])
            job.delivered()
            images = images[job.size[2] :]


def _fail(jobs: list[_Job], error: Exception) -> None:
    for job in jobs:
        job.ticket.deliver([], as_engine_error(error))
        job.delivered()


class SharedEngines:
    """The engines shared by the rigs of a process, by the key they were opened with and the size they are used for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opening: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)
        self._engines: defaultdict[Hashable, list[_SharedEngine]] = defaultdict(list)

    def lease(self, key: Hashable, open_engine: Callable[[], Fuser]) -> Fuser:
        """A lease of the engine of ``key``, opened on first use; raises what ``open_engine`` raises.

        A rig that prepares another size gets an engine of its own: pairs of two sizes never batch, and the first rig
        would wait while kernels and memory for the second are made. Closing the last lease closes an engine. Engines
        on a CPU are returned unshared.
        """
        shared = self._join(key, None, open_engine)
        return shared if not isinstance(shared, _SharedEngine) else _Lease(self, key, open_engine, shared)

    def move(
        self, key: Hashable, shared: _SharedEngine, size: Shape, open_engine: Callable[[], Fuser]
    ) -> _SharedEngine:
        """The engine for a size, as one more user of it: ``shared`` itself if it is unused or of this size.

        Raises what ``open_engine`` raises, and :class:`EngineError` where what it opens runs on a CPU.
        """
        with self._lock:
            if shared.size is None:
                shared.size = size
            if shared.size == size:
                return shared
        moved = self._join(key, size, open_engine)
        if not isinstance(moved, _SharedEngine):
            moved.close()
            raise EngineError("a further one runs on a CPU")
        return moved

    def release(self, key: Hashable, shared: _SharedEngine) -> None:
        """Ends one use of an engine; the last one closes it."""
        with self._lock:
            shared.users -= 1
            last = not shared.users
            if last:
                self._engines[key].remove(shared)
        if last:
            shared.stop()

    def _join(self, key: Hashable, size: Shape | None, open_engine: Callable[[], Fuser]) -> _SharedEngine | Fuser:
        with self._lock:
            opening = self._opening[key]
        with opening:  # a lock per key: opening one engine does not block others
            with self._lock:
                for shared in self._engines[key]:
                    if size is None or shared.size in (None, size):
                        shared.size = shared.size or size
                        shared.users += 1
                        return shared
            fuser = open_engine()
            if fuser.info.device.startswith("cpu"):
                return fuser
            try:
                shared = _SharedEngine(fuser)
            except BaseException:
                fuser.close()
                raise
            with self._lock:
                self._engines[key].append(shared)
                shared.users, shared.size = 1, size
            return shared


class _Lease(FuserBase):
    """One rig's lease of a shared engine; see :class:`fusepipe.core.fuser.Fuser`."""

    def __init__(
        self, table: SharedEngines, key: Hashable, open_engine: Callable[[], Fuser], shared: _SharedEngine
    ) -> None:
        super().__init__()
        self._table, self._key, self._open, self._shared = table, key, open_engine, shared
        self.info = shared.fuser.info
        self._room = threading.Semaphore(self.info.max_in_flight)
        self._moving = threading.Lock()

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        """Prepares this size, and the batch sizes that the rigs can form together.

        On an engine of its own if the shared one is used for another size.
        """
        self._require_open()
        with self._moving:
            self._move((height, width))
        largest = max(batch, min(self._shared.users, self.info.max_batch))
        sizes = {batch, *(1 << n for n in range(largest.bit_length()) if 1 << n <= largest)}
        for pairs in sorted(sizes):
            ticket = EngineTicket()
            self._shared.put(_Job(self, ticket, (height, width, pairs)))
            ticket.result(STOP_TIMEOUT_S)
        self.info = self._shared.fuser.info  # auto may have changed to the CPU

    def _move(self, size: Shape) -> None:
        try:
            moved = self._table.move(self._key, self._shared, size, self._open)
        except FusepipeError as error:  # no memory for one more engine: the shared one has room for several sizes
            _LOG.warning("no further engine for %dx%d, the rigs share one: %s", size[1], size[0], error)
            return
        if moved is self._shared:
            return
        acquired = self._acquire_room()
        former, self._shared = self._shared, moved
        if acquired:  # a request that has not completed in time gives its own place back when it does
            self._room.release(acquired)
        self._table.release(self._key, former)

    def submit(self, batch: FusionBatch) -> Ticket:
        """See :class:`fusepipe.core.fuser.Fuser`."""
        self._require_open()
        pairs = len(batch.visible)
        if pairs > self.info.max_batch:
            raise UsageError(f"a batch of {pairs} is more than this engine's {self.info.max_batch}")
        if not self._room.acquire(timeout=REQUEST_TIMEOUT_S):
            raise EngineError(f"the engine has completed no request for {REQUEST_TIMEOUT_S:g} s")
        ticket = EngineTicket()
        try:
            self._require_open()  # it may have been closed while this waited
            self._shared.put(_Job(self, ticket, (*batch.shape, pairs), batch, self._room.release))
        except EngineError:
            self._room.release()
            raise
        return ticket

    def close(self) -> None:
        """Waits for requests in flight; closing the last lease closes the engine."""
        with self._moving:
            if self._closed:
                return
            super().close()
            acquired = self._acquire_room()
            self._table.release(self._key, self._shared)
            self._room.release(max(1, acquired))  # threads that wait in submit find the lease closed, one by one

    def _acquire_room(self) -> int:
        """Waits for the requests in flight; the places acquired, fewer than all where some have not completed."""
        return sum(self._room.acquire(timeout=REQUEST_TIMEOUT_S) for _ in range(self.info.max_in_flight))


ENGINES = SharedEngines()
"""The shared engines of this process."""
