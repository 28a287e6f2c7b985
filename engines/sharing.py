"""One engine for several rigs: pairs that come while it computes go into its next batch together.

A GPU computes a batch of two in less than twice the time of one, and an engine takes its memory once. A thread of the
share's own is the engine's one caller and starts as many batches as can be under way; a second one delivers what comes
of them. Each rig holds a lease, which is a :class:`fusepipe.core.fuser.Fuser` like any other. Engines on a CPU are not
shared: there a batch takes as long as its pairs one by one.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from queue import SimpleQueue

from fusepipe.core.errors import EngineError, FusepipeError, UsageError
from fusepipe.core.fuser import EngineTicket, Fuser, FuserBase, FusionBatch, Ticket, as_engine_error

_WAIT_S = 60.0
_STOP_S = 400.0  # longer than any request may take


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A request of the lease ``owner``. Without a batch, ``size`` (height, width, pairs) is only prepared."""

    owner: object
    ticket: EngineTicket
    size: tuple[int, int, int]
    batch: FusionBatch | None = None
    delivered: Callable[[], None] = lambda: None

    def goes_with(self, other: _Job) -> bool:
        """Whether both can be part of one batch."""
        if self.batch is None or other.batch is None:
            return False
        mine, its = self.batch, other.batch
        return (
            mine.shape == its.shape
            and mine.infrared[0].shape == its.infrared[0].shape
            and bool(mine.warps) == bool(its.warps)
        )


def _joined(jobs: list[_Job]) -> FusionBatch:
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


class _Share:
    """The engine, its threads, and what waits for it. ``users`` is guarded by the table's lock."""

    def __init__(self, fuser: Fuser) -> None:
        self.fuser, self.users = fuser, 0
        self._waiting: deque[_Job] = deque()
        self._condition = threading.Condition()
        self._stopped = False
        self._failure: FusepipeError | None = None  # of freeing the engine
        self._room = threading.Semaphore(fuser.info.max_in_flight)
        self._started: SimpleQueue[_Started | None] = SimpleQueue()
        # daemons: a GPU that hangs does not keep Python from ending
        name = f"share-{fuser.info.model}"
        self._collector = threading.Thread(target=self._collect, name=f"{name}-results", daemon=True)
        self._collector.start()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, job: _Job) -> None:
        with self._condition:
            if self._stopped:
                raise EngineError(f"the engine of {self.fuser.info.model!r} has ended; start the rig again")
            self._waiting.append(job)
            self._condition.notify_all()

    def stop(self) -> None:
        """Waits for what is under way and frees the engine."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            raise EngineError("the thread of a shared engine does not end: the GPU hangs")
        if self._failure is not None:
            raise self._failure

    # -- the threads' side

    def _run(self) -> None:
        """Starts what waits, as soon as the engine has room: what comes until then goes along."""
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
        """Delivers what was started, in that order."""
        while (started := self._started.get()) is not None:
            self._finish(*started)
            self._room.release()

    def _next(self) -> list[_Job]:
        """The oldest job and those of other rigs that can go with it, none once the share has ended.

        They are 1, 2, 4 ... pairs, so that few sizes are ever made. Pairs of one rig go one after the other: together
        the first would wait for the second.
        """
        with self._condition:
            while not self._waiting and not self._stopped:
                self._condition.wait()
            if not self._waiting:
                return []
            first = self._waiting[0]
            fitting, pairs, owners = [first], first.size[2], {first.owner}
            for job in list(self._waiting)[1:]:
                room = pairs + job.size[2] <= self.fuser.info.max_batch
                if room and job.owner not in owners and job.goes_with(first):
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
        except Exception as error:  # noqa: BLE001 - the one who waits is told, and the other rigs go on
            _fail([job], error)
        self._room.release()

    def _start(self, jobs: list[_Job]) -> None:
        try:
            self._started.put((self.fuser.submit(_joined(jobs)), jobs))
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
    """The engines that rigs of this process share, by what they were opened with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opening: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)
        self._shares: dict[Hashable, _Share] = {}

    def lease(self, key: Hashable, open_engine: Callable[[], Fuser]) -> Fuser:
        """The engine of this key for one rig, opened if nobody has it; raises what ``open_engine`` raises.

        Close it like any fuser: the last one who does frees the engine. What computes on the CPU is not shared.
        """
        with self._lock:
            opening = self._opening[key]
        with opening:  # one key at a time: other rigs' engines need not wait for this one
            share = self._joined(key)
            if share is None:
                fuser = open_engine()
                if fuser.info.device.startswith("cpu"):
                    return fuser
                share = _Share(fuser)
                with self._lock:
                    self._shares[key] = share
                    share.users = 1
            return _Lease(share, lambda: self._release(key, share))

    def _joined(self, key: Hashable) -> _Share | None:
        with self._lock:
            share = self._shares.get(key)
            if share is not None:
                share.users += 1
            return share

    def _release(self, key: Hashable, share: _Share) -> None:
        with self._lock:
            share.users -= 1
            last = not share.users
            if last:
                del self._shares[key]
        if last:
            share.stop()


class _Lease(FuserBase):
    """A rig's part of a shared engine; see :class:`fusepipe.core.fuser.Fuser`."""

    def __init__(self, share: _Share, release: Callable[[], None]) -> None:
        super().__init__()
        self._share, self._release = share, release
        self.info = share.fuser.info
        self._room = threading.Semaphore(self.info.max_in_flight)

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        """Prepares the batches that this many rigs can make, too."""
        self._require_open()
        most = max(batch, min(self._share.users, self.info.max_batch))
        sizes = {batch, *(1 << n for n in range(most.bit_length()) if 1 << n <= most)}
        for pairs in sorted(sizes):
            ticket = EngineTicket()
            self._share.put(_Job(self, ticket, (height, width, pairs)))
            ticket.result(_STOP_S)

    def submit(self, batch: FusionBatch) -> Ticket:
        """See :class:`fusepipe.core.fuser.Fuser`."""
        self._require_open()
        pairs = len(batch.visible)
        if pairs > self.info.max_batch:
            raise UsageError(f"a batch of {pairs} is more than this engine's {self.info.max_batch}")
        if not self._room.acquire(timeout=_WAIT_S):
            raise EngineError(f"the engine has finished nothing for {_WAIT_S:g} s")
        ticket = EngineTicket()
        try:
            self._share.put(_Job(self, ticket, (*batch.shape, pairs), batch, self._room.release))
        except EngineError:
            self._room.release()
            raise
        return ticket

    def close(self) -> None:
        """Waits for what is in flight; the engine is freed with its last lease."""
        if self._closed:
            return
        super().close()
        for _ in range(self.info.max_in_flight):
            self._room.acquire(timeout=_WAIT_S)
        self._release()


ENGINES = SharedEngines()
"""Those of this process: a GPU belongs to all of its rigs."""
