"""Run several rigs in one process: start, wait, reload on SIGHUP, drain on a stop signal, one exit code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from fusepipe.core.errors import FusepipeError, Interrupted, printable
from fusepipe.pipeline.sources.live.blocked_threads import threads_left_behind
from fusepipe.rig.process.event_log import log_to_stderr
from fusepipe.rig.process.progress import ProgressLine
from fusepipe.rig.process.reload import ReadRigs, reload
from fusepipe.rig.process.signals import StopSignals
from fusepipe.rig.process.systemd import ServiceManager, StallDetector

if TYPE_CHECKING:
    from fusepipe.rig.api import Pipeline
    from fusepipe.rig.report.run_report import RunReport

POLL_S = 0.25
STALL_LIMIT_S = 20.0  # longer than detecting a lost camera takes; the first engine compiles within it
OPEN_ERRORS = (FusepipeError, OSError, MemoryError, RuntimeError)


@dataclass
class RunOutcome:
    """Result of the pipelines of one command: reports and errors.

    ``stuck``: a thread hangs in a system call, so the run did not complete. ``blocked``: the run is complete, but the
    reader of a camera that does not answer has not ended.
    """

    reports: list[RunReport] = field(default_factory=list)
    errors: list[FusepipeError] = field(default_factory=list)
    interrupted: bool = False
    stuck: bool = False
    blocked: bool = False

    @property
    def exit_code(self) -> int:
        """130 when interrupted, else that of the first error, else 0."""
        if self.interrupted:
            return Interrupted.exit_code
        return self.errors[0].exit_code if self.errors else 0


def run_rigs(pipelines: Sequence[Pipeline], *, quiet: bool, read: ReadRigs | None = None) -> RunOutcome:
    """Opens and starts all pipelines and waits for all of them; one rig's failure does not stop the others.

    The first stop signal drains every pipeline, a second one aborts them. On SIGHUP the rigs that ``read``
    returns are applied; without ``read`` SIGHUP is a stop signal.
    """
    log_to_stderr()
    with StopSignals(reloads=read is not None) as signals:
        group = _Group(signals, read)
        group.start(pipelines)
        with ProgressLine(group.running, enabled=not quiet) as progress:
            while group.waiting:
                group.poll()
                progress.update()
    return group.finish()


class _Group:
    """Pipelines that run together: ``running`` were started, ``waiting`` of them have not ended."""

    def __init__(self, signals: StopSignals, read: ReadRigs | None) -> None:
        self.running: list[Pipeline] = []
        self.waiting: list[Pipeline] = []
        self._signals, self._read = signals, read
        self._outcome = RunOutcome()
        self._stops_seen = self._reloads_seen = 0
        self._manager = ServiceManager()
        self._stalls: list[StallDetector] = []

    def start(self, pipelines: Sequence[Pipeline]) -> None:
        """Opens and starts each in turn; a failure is recorded, a stop signal ends the start."""
        for pipeline in pipelines:
            try:
                with self._signals.raising():
                    pipeline.open()
                pipeline.start()
                self.running.append(pipeline)
                for text in pipeline.announcements():  # also when quiet: nothing else shows a token
                    click.echo(printable(text), err=True)
            except Interrupted:
                break
            except OPEN_ERRORS as error:
                self._outcome.errors.append(_named(pipeline, error))
        self._outcome.interrupted = self._signals.count > 0
        self.waiting = list(self.running)
        self._stalls = [StallDetector(STALL_LIMIT_S) for _ in self.running]
        if self.running:
            self._manager.ready(self._status())

    def poll(self) -> None:
        """Handles pending signals, waits up to ``POLL_S`` for the pipelines, and pings the watchdog."""
        if self._signals.count > self._stops_seen:
            self._stop()
        if self._signals.reload_count > self._reloads_seen and self._read is not None:
            self._reloads_seen = self._signals.reload_count
            self._manager.reloading(time.monotonic_ns())
            reload(self.waiting, self._read)
            self._manager.ready(self._status())
        for pipeline in list(self.waiting):
            self._wait(pipeline, POLL_S / len(self.waiting))
        now_s = time.monotonic()
        if not self._stalled(now_s):
            self._manager.alive(now_s)

    def finish(self) -> RunOutcome:
        """Collects the errors and reports of the pipelines that were started."""
        for pipeline in self.running:
            try:
                if pipeline.finished:
                    pipeline.raise_error()
            except FusepipeError as error:
                self._outcome.errors.append(error)
        self._outcome.reports = [pipeline.report() for pipeline in self.running]
        self._outcome.blocked = bool(threads_left_behind())
        return self._outcome

    def _status(self) -> str:
        return f"running {', '.join(pipeline.rig.name for pipeline in self.running)}"

    def _stop(self) -> None:
        self._stops_seen, self._outcome.interrupted = self._signals.count, True
        self._manager.stopping()
        for pipeline in self.waiting:
            pipeline.interrupt()

    def _wait(self, pipeline: Pipeline, timeout_s: float) -> None:
        try:
            if pipeline.wait(timeout_s):
                self.waiting.remove(pipeline)
        except FusepipeError as error:  # a thread hangs in a system call
            self.waiting.remove(pipeline)
            self._outcome.errors.append(error)
            self._outcome.stuck = True

    def _stalled(self, now_s: float) -> bool:
        """Whether a live rig that runs delivers no frames: its output never pauses, so the watchdog must act."""
        stalled = [s.stalled(p.statistics.fused, now_s) for s, p in zip(self._stalls, self.running, strict=True)]
        return any(s and p in self.waiting and p.live for s, p in zip(stalled, self.running, strict=True))


def _named(pipeline: Pipeline, error: BaseException) -> FusepipeError:
    if isinstance(error, FusepipeError):
        return error
    named = FusepipeError(f"{pipeline.rig.name}: {type(error).__name__}: {error}")
    named.__cause__ = error
    return named
