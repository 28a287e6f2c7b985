"""Run several rigs in one process: start, wait, reload on SIGHUP, drain on a stop signal, one exit code."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fusepipe.core.errors import printable
from fusepipe.pipeline.servers.addresses import every_address_note
from fusepipe.pipeline.sources.live.blocked_threads import threads_left_behind
from fusepipe.rig.process.event_log import log_to_stderr
from fusepipe.rig.process.managed_rig import ManagedRig
from fusepipe.rig.process.outcome import RunOutcome
from fusepipe.rig.process.progress import ProgressLine, plain_lines
from fusepipe.rig.process.refused_rigs import RefusedRigs
from fusepipe.rig.process.reload import ReadRigs, reload
from fusepipe.rig.process.signals import StopSignals
from fusepipe.rig.process.systemd import ServiceManager

if TYPE_CHECKING:
    from fusepipe.config.rig_folder import RefusedRig
    from fusepipe.config.schema import Rig
    from fusepipe.rig.api import Pipeline

POLL_S = 0.25
ABANDON_S = 0.7  # how long the end of a run waits for rigs that are starting


def run_rigs(
    pipelines: Sequence[Pipeline],
    *,
    quiet: bool,
    refused: Sequence[RefusedRig] = (),
    read: ReadRigs | None = None,
    service: bool = False,
) -> RunOutcome:
    """Starts all rigs at the same time and waits for them; no rig waits for another one or ends with it.

    A rig that cannot start is retried as long as another one runs, see :mod:`fusepipe.rig.process.start`. The run ends
    when no rig runs. The first stop signal drains every rig, a second one aborts them. On SIGHUP the rigs that ``read``
    returns are applied, and new ones started; without ``read`` SIGHUP is a stop signal. ``refused`` rigs are shown as
    failed. ``service``: SIGTERM is the intended end.
    """
    log_to_stderr()
    with StopSignals(reloads=read is not None) as signals:
        group = _Group(pipelines, refused, signals, read)
        group.start()
        with ProgressLine(group.lines, enabled=not quiet, plain=group.plain_lines) as progress:
            while group.alive:
                group.poll()
                progress.update()
        return group.finish(service=service)


class _Group:
    """Rigs that run together, in the order of the rig file."""

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        refused: Sequence[RefusedRig],
        signals: StopSignals,
        read: ReadRigs | None,
    ) -> None:
        self._changed = threading.Event()
        self._refused = RefusedRigs()
        self._refused.replace(refused, [pipeline.rig for pipeline in pipelines])
        alone = len(pipelines) == 1 and not refused
        self._rigs = [ManagedRig(pipeline, self._changed.set, alone=alone) for pipeline in pipelines]
        self._signals, self._read = signals, read
        self._stops_seen = self._reloads_seen = 0
        self._failed_before: list[ManagedRig] | None = None  # the stop signal
        self._manager = ServiceManager()
        self._notes: set[str] = set()
        self._status = ""  # the last one sent; empty before the service is ready

    @property
    def alive(self) -> bool:
        """Whether a rig runs or may still start; a failed one alone does not keep the process."""
        return any(rig.running or rig.starting for rig in self._rigs)

    def lines(self) -> list[str]:
        """The progress lines."""
        return [text for rig in self._rigs for text in rig.lines()]

    def plain_lines(self) -> list[str]:
        """The progress lines where standard error is no terminal."""
        return plain_lines([rig.pipeline for rig in self._rigs if rig.running])

    def start(self) -> None:
        for rig in self._rigs:
            rig.begin()

    def poll(self) -> None:
        """Handles pending signals and starts, waits up to ``POLL_S`` for a change, and pings the watchdog."""
        if self._signals.count > self._stops_seen:
            self._stop()
        if self._signals.reload_count > self._reloads_seen and self._read is not None:
            self._reload(self._read)
        self._changed.clear()
        for rig in self._rigs:
            rig.advance(time.monotonic())
            self._announce(rig.take_announcements())
        self._notify()
        running = [rig for rig in self._rigs if rig.running]
        if not running and self.alive:
            self._changed.wait(POLL_S)
        for rig in running:
            rig.wait(POLL_S / len(running))
        now_s = time.monotonic()
        stalled = [rig.stalled(now_s) for rig in self._rigs]  # all of them: each notes the time of its last frame
        if self._status and not any(stalled):
            self._manager.alive(now_s)

    def _announce(self, texts: Sequence[str]) -> None:
        """Shows URLs, also when quiet: nothing else shows a token."""
        for text in texts:
            click.echo(printable(text), err=True)
        note = every_address_note("\n".join(texts))
        if note and note not in self._notes:
            self._notes.add(note)
            click.echo(note, err=True)

    def finish(self, *, service: bool) -> RunOutcome:
        """Ends what is left of starts, and collects errors and reports."""
        for rig in self._rigs:
            rig.give_up_start(0.0)
        failed = [rig for rig in self._rigs if rig.error is not None]
        interrupted = self._failed_before is not None
        reports = [report for rig in self._rigs if (report := rig.report()) is not None]
        outcome = RunOutcome(
            reports=reports + self._refused.reports(),
            errors=[rig.error for rig in failed if rig.error is not None] + self._refused.errors,
            end_errors=[rig.error for rig in failed if rig.error and rig not in (self._failed_before or ())],
            interrupted=interrupted,
            terminated=interrupted and service and self._signals.only_sigterm,
            stuck=any(rig.stuck for rig in self._rigs),
        )
        for rig in self._rigs:
            rig.close()
        self._refused.close()
        outcome.blocked = bool(threads_left_behind())
        return outcome

    def _stop(self) -> None:
        self._stops_seen = self._signals.count
        if self._failed_before is None:
            self._failed_before = [rig for rig in self._rigs if rig.error is not None]
        self._manager.stopping()
        until_s = time.monotonic() + ABANDON_S
        for rig in self._rigs:
            rig.stop(max(0.0, until_s - time.monotonic()))

    def _reload(self, read: ReadRigs) -> None:
        self._reloads_seen = self._signals.reload_count
        self._manager.reloading(time.monotonic_ns())
        if (reloaded := reload(self._rigs, read)) is not None:
            selection, new = reloaded
            # first, so that a page has a name once only
            self._refused.replace(selection.refused, [*(rig.pipeline.rig for rig in self._rigs), *new])
            self._add(new)
        self._manager.ready(self._status_text())

    def _add(self, new: Sequence[Rig]) -> None:
        for settings in new:
            rig = ManagedRig(self._rigs[0].pipeline.again(settings), self._changed.set)
            self._rigs.append(rig)
            rig.begin()
        for rig in self._rigs:
            rig.alone = rig.alone and not new

    def _notify(self) -> None:
        """Ready when the first rig runs; the status line follows the rigs."""
        text = self._status_text()
        if text == self._status or not any(rig.running for rig in self._rigs) or self._failed_before is not None:
            return
        if self._status:
            self._manager.status(text)
        else:
            self._manager.ready(text)
        self._status = text

    def _status_text(self) -> str:
        by_state: dict[str, list[str]] = {}
        for rig in self._rigs:
            by_state.setdefault("running" if rig.running else str(rig.status().state), []).append(rig.name)
        if self._refused.names:
            by_state.setdefault("failed", []).extend(self._refused.names)
        return "; ".join(f"{state} {', '.join(names)}" for state, names in by_state.items())
