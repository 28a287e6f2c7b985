"""Workers as actors on a Ray cluster: the same clips, queue and outputs as with processes on this machine.

The output folder, and inputs that are paths, are on storage that all nodes share. An actor that dies, with its process
or its node, is replaced where the cluster has room; its clip gets a failed result that may be tried again.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.core.redact import redact_url
from fusepipe.core.version import __version__
from fusepipe.workflows.batch.clip_job import ClipJob, ClipResult, run_clip
from fusepipe.workflows.batch.core_claim import claim_core
from fusepipe.workflows.batch.kept_engine import KeptEngine
from fusepipe.workflows.batch.local_pool import died, limit_cores

CONNECT_S = 5.0
START_S = 120.0  # in which one worker at least starts: the first one on a node imports everything
MAX_FAILED_STARTS = 3  # in a row
NODE_STARTS = 3  # of a new cluster: Ray gives up on a node whose agents take over 15 s to start


class _ClipActor:
    """A worker: one core, one engine, one clip at a time."""

    def __init__(self) -> None:
        self._core = claim_core()
        limit_cores([self._core.number])
        self._engine = KeptEngine()

    def start(self, out: Path, lock: int, version: str) -> None:
        """Checks that this node can work: raises :class:`UsageError` where its files or its fusepipe are others."""
        here = f"the node {socket.gethostname()}"
        if version != __version__:
            raise UsageError(f"{here} has fusepipe {__version__}, this one is {version}; install the same on all nodes")
        try:
            same = (out / ".batch" / "lock").stat().st_ino == lock
        except OSError:
            same = False
        if not same:
            raise UsageError(f"{out}: is not the same folder on {here}; use storage that all nodes share")

    def fuse(self, job: ClipJob) -> ClipResult:
        """See :func:`run_clip`."""
        return run_clip(job, self._engine)


@dataclass(slots=True)
class _RemoteWorker:
    """An actor, what it computes (``None``: nothing), its clip (``None`` while it starts), and since when."""

    actor: Any
    pending: Any
    job: ClipJob | None
    since_s: float


class RayPool:
    """Actors on the cluster at ``address``: ``HOST:PORT``, ``ray://HOST:PORT``, ``auto``, or ``local`` for a new one.

    ``workers``: ``None`` for one a core of the cluster, at most ``most``. Each gets a GPU, or a share of one, where the
    cluster has any. Raises :class:`UsageError` where Ray is not installed, :class:`FusepipeError` where the cluster
    cannot be reached.
    """

    def __init__(self, address: str, workers: int | None, most: int, timeout_s: float, out: Path) -> None:
        self._ray = _connected(address, workers or most)
        self._out, self._timeout_s = out, timeout_s
        resources = self._ray.cluster_resources()
        count = workers or min(most, max(1, int(resources.get("CPU", 1))))
        # a clip keeps a GPU busy only in part
        gpus = min(1.0, resources.get("GPU", 0.0) / count)
        self._actor = self._ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_ClipActor)
        self._failed_starts, self._started_s = 0, time.monotonic()
        self._workers = [self._start() for _ in range(count)]

    @property
    def size(self) -> int:
        """The number of workers, also of those that have not started yet."""
        return len(self._workers)

    @property
    def idle(self) -> int:
        return sum(worker.pending is None for worker in self._workers)

    def submit(self, job: ClipJob) -> None:
        worker = next(worker for worker in self._workers if worker.pending is None)
        worker.job, worker.since_s = job, time.monotonic()
        worker.pending = worker.actor.fuse.remote(job)

    def wait(self, timeout_s: float) -> list[ClipResult]:
        pending = [worker.pending for worker in self._workers if worker.pending is not None]
        if not pending:  # all clips wait for another attempt; Ray would return at once
            time.sleep(timeout_s)
            return []
        self._ray.wait(pending, num_returns=1, timeout=timeout_s)
        ready = set(self._ray.wait(pending, num_returns=len(pending), timeout=0)[0])
        results = [self._taken(worker) for worker in list(self._workers) if worker.pending in ready]
        results += [self._late(worker) for worker in list(self._workers) if self._is_late(worker)]
        starting = all(worker.job is None and worker.pending is not None for worker in self._workers)
        if starting and time.monotonic() - max(worker.since_s for worker in self._workers) > START_S:
            raise FusepipeError(f"no worker could be started within {START_S:g} s: the cluster has no free core")
        return [result for result in results if result is not None]

    def close(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor, no_restart=True)
        self._ray.shutdown()

    def _start(self) -> _RemoteWorker:
        actor = self._actor.remote()
        lock = (self._out / ".batch" / "lock").stat().st_ino
        return _RemoteWorker(actor, actor.start.remote(self._out, lock, __version__), None, time.monotonic())

    def _taken(self, worker: _RemoteWorker) -> ClipResult | None:
        """The result of a clip, also where the actor died with it; ``None`` for a worker that has started, or not."""
        job, pending = worker.job, worker.pending
        worker.job = worker.pending = None
        try:
            result: ClipResult | None = self._ray.get(pending)
        except self._ray.exceptions.RayTaskError as error:
            raise FusepipeError(str(error.cause or error)) from error  # only `start` raises
        except self._ray.exceptions.RayError as error:
            return self._replace(worker, job, error)
        self._failed_starts = 0
        return result

    def _replace(self, worker: _RemoteWorker, job: ClipJob | None, error: Exception) -> ClipResult | None:
        if job is None:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS * len(self._workers):
                raise FusepipeError(f"no worker can be started on the cluster: {_last_line(error)}") from error
        self._workers[self._workers.index(worker)] = self._start()
        return None if job is None else died(job, f"the worker died: {_last_line(error)}")

    def _is_late(self, worker: _RemoteWorker) -> bool:
        return worker.job is not None and time.monotonic() - worker.since_s > self._timeout_s

    def _late(self, worker: _RemoteWorker) -> ClipResult:
        assert worker.job is not None
        self._ray.kill(worker.actor, no_restart=True)
        self._workers[self._workers.index(worker)] = self._start()
        return died(worker.job, f"was not finished within {self._timeout_s:g} s (--timeout)")


def _connected(address: str, cores: int) -> Any:
    """The module ``ray``, connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs Ray: pip install 'fusepipe[ray]'") from error
    if address not in ("local", "auto"):
        _check_reachable(address)
    own = {"num_cpus": cores, "include_dashboard": False} if address == "local" else {}
    for attempts_left in reversed(range(NODE_STARTS if own else 1)):
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR", **own)
            break
        except Exception as error:  # Ray has a dozen kinds for this, and none for a node that gives up
            ray.shutdown()
            if not attempts_left:
                raise FusepipeError(
                    f"the Ray cluster {redact_url(address)} cannot be reached: {_last_line(error)}"
                ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Raises :class:`FusepipeError` where nothing answers: Ray itself would wait for a minute.

    Raises :class:`UsageError` for what is no address.
    """
    if "@" in address:
        raise UsageError(f"--ray {redact_url(address)}: Ray has no users and passwords; leave out what is before the @")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--ray {redact_url(address)}: write HOST:PORT, ray://HOST:PORT, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FusepipeError(
            f"the Ray cluster {redact_url(address)} cannot be reached: {reason}; is 'ray start' running?"
        ) from error


def _last_line(error: Exception) -> str:
    """Of its message, without Ray's paragraph of guesses."""
    last = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return last.partition("Some common causes")[0].strip()
