"""Runs rigs in several processes: starts them, watches them, starts one again that failed, stops all, one result.

Several processes are faster than one where rigs ask for more than Python's interpreter lock lets one process do, and
what ends one process (an error in a codec, the system's memory limit) does not concern the rigs of the others.
"""

from __future__ import annotations

import logging
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

import click

from fusepipe.config.schema import Rig
from fusepipe.core.errors import FusepipeError, Interrupted, printable
from fusepipe.rig.process.event_log import log_to_stderr
from fusepipe.rig.process.reload import ReadRigs
from fusepipe.rig.process.rig_worker import RigWorker
from fusepipe.rig.process.signals import StopSignals
from fusepipe.rig.process.systemd import ServiceManager

log = logging.getLogger(__name__)

POLL_S = 0.25
STOP_S = 30.0  # more than a process takes to drain, to abort and to finalise its files


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """How one process ended: its rigs, exit code (negative: killed by that signal), restarts, standard output.

    ``failure`` is how it last failed, empty if it never did; ``ended_before_stop``: it did not run when the stop signal
    came.
    """

    rigs: list[str]
    exit_code: int
    restarts: int
    output: str
    failure: str
    ended_before_stop: bool = False


@dataclass
class WorkersOutcome:
    """The results of all processes, in their order, and errors of the run itself; see :class:`RunOutcome`."""

    workers: list[WorkerResult] = field(default_factory=list)
    errors: list[FusepipeError] = field(default_factory=list)
    interrupted: bool = False
    terminated: bool = False

    @property
    def exit_code(self) -> int:
        """130 when interrupted, else that of the first process with an error (1 if it was killed), else 0.

        After SIGTERM only processes that ran until then count.
        """
        if self.interrupted and not self.terminated:
            return Interrupted.exit_code
        if self.errors:
            return self.errors[0].exit_code
        counted = [worker for worker in self.workers if not (self.terminated and worker.ended_before_stop)]
        return next((worker.exit_code for worker in counted if worker.exit_code > 0), 0)


def run_workers(
    shares: Sequence[Sequence[Rig]], commands: Sequence[Sequence[str]], *, read: ReadRigs | None = None
) -> WorkersOutcome:
    """Runs each share of the rigs with its command in a process of its own, until none runs.

    The first stop signal has every process drain, a second one abort; what still runs after ``STOP_S`` is killed.
    SIGTERM is the intended end. SIGHUP has each process reload its rigs; ``read`` tells which rigs are new and would
    need a restart. Raises :class:`FusepipeError` if a process cannot be started.
    """
    log_to_stderr()
    with (
        StopSignals(reloads=True) as signals,
        tempfile.TemporaryDirectory(prefix="fusepipe-", ignore_cleanup_errors=True) as folder,
    ):
        run = _WorkersRun(shares, commands, Path(folder), signals, read)
        try:
            run.start()
            while run.alive:
                run.poll()
            return run.outcome()
        finally:
            run.close()


class _WorkersRun:
    def __init__(
        self,
        shares: Sequence[Sequence[Rig]],
        commands: Sequence[Sequence[str]],
        folder: Path,
        signals: StopSignals,
        read: ReadRigs | None,
    ) -> None:
        self._workers = [
            RigWorker(number, share, command, folder, _relay_of(number))
            for number, (share, command) in enumerate(zip(shares, commands, strict=True), 1)
        ]
        self._signals, self._read = signals, read
        self._stops_seen = self._reloads_seen = 0
        self._stop_until_s: float | None = None
        self._errors: list[FusepipeError] = []
        self._manager = ServiceManager()
        self._status = ""  # the last one sent; empty before the service is ready

    @property
    def alive(self) -> bool:
        """Whether a process runs, or was killed and is started again; one that only fails does not keep the run."""
        running = any(worker.process is not None for worker in self._workers)
        return running or any(worker.retry_s is not None and worker.crashed for worker in self._workers)

    def start(self) -> None:
        for worker in self._workers:
            try:
                worker.start(time.monotonic())
            except OSError as error:
                raise FusepipeError(f"{worker.label} cannot be started: {error.strerror}") from error
            names = ", ".join(rig.name for rig in worker.rigs)
            log.info("process %d runs %s", worker.number, printable(names))

    def poll(self) -> None:
        """Handles signals, waits up to ``POLL_S`` for something to happen, and handles that."""
        if self._signals.count > self._stops_seen:
            self._stop()
        if self._signals.reload_count > self._reloads_seen:
            self._reload()
        said = [source for worker in self._workers for source in worker.waited_for]
        if said:
            # an end of file stays readable until the process has ended: do not spin meanwhile
            begun_s = time.monotonic()
            wait(said, POLL_S)
            time.sleep(max(0.0, POLL_S / 10 - (time.monotonic() - begun_s)))
        else:
            time.sleep(POLL_S)
        now_s = time.monotonic()
        for worker in self._workers:
            worker.read(now_s)
            others = any(one.process is not None for one in self._workers if one is not worker)
            worker.advance(now_s, others_run=others)
        if self._stop_until_s is not None and now_s > self._stop_until_s:
            self._kill()
        self._notify(now_s)

    def _stop(self) -> None:
        self._stops_seen = self._signals.count
        if self._stop_until_s is None:
            self._stop_until_s = time.monotonic() + STOP_S
        self._manager.stopping()
        for worker in self._workers:
            worker.stop(signal.SIGTERM if self._signals.only_sigterm else signal.SIGINT)

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.process is not None:
                worker.failure = f"did not end within {STOP_S:g} s"
                worker.send(signal.SIGKILL)
        self._stop_until_s = float("inf")

    def _reload(self) -> None:
        self._reloads_seen = self._signals.reload_count
        self._manager.reloading(time.monotonic_ns())
        for worker in self._workers:
            worker.reload()
        if self._read is not None:
            known = {rig.name for worker in self._workers for rig in worker.rigs}
            try:
                new = [rig.name for rig in self._read().rigs if rig.name not in known]
            except FusepipeError:
                new = []  # each process says what is wrong
            for name in new:
                log.warning("reload: %s is new: with several processes it needs a restart", printable(name))
        self._manager.ready(self._status_text())

    def _notify(self, now_s: float) -> None:
        """Ready when the first process is; the status line follows the processes, also while none is ready again."""
        was_ready = bool(self._status)
        if self._stop_until_s is not None or not (was_ready or any(worker.ready for worker in self._workers)):
            return
        if (text := self._status_text()) != self._status:
            (self._manager.status if self._status else self._manager.ready)(text)
            self._status = text
        self._manager.alive(now_s)

    def _status_text(self) -> str:
        """What each process says of its rigs."""
        parts = []
        for worker in self._workers:
            state = "starting" if worker.process is not None else "ended" if worker.retry_s is None else "restarting"
            parts.append(worker.status or f"{state} {', '.join(rig.name for rig in worker.rigs)}")
        return "; ".join(parts)

    def outcome(self) -> WorkersOutcome:
        """Of the run, once no process runs."""
        self._errors += [FusepipeError(f"{one.label} {one.failure}") for one in self._workers if one.died]
        return WorkersOutcome(
            [_result(worker) for worker in self._workers],
            self._errors,
            interrupted=self._stops_seen > 0,
            terminated=self._stops_seen > 0 and self._signals.only_sigterm,
        )

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


def _result(worker: RigWorker) -> WorkerResult:
    return WorkerResult(
        [rig.name for rig in worker.rigs],
        worker.exit_code or 0,
        worker.restarts,
        worker.output,
        worker.failure,
        worker.ended_before_stop,
    )


def _relay_of(number: int) -> Callable[[str], None]:
    def relay(line: str) -> None:
        click.echo(f"[{number}] {printable(line)}", err=True)

    return relay
