"""Running pipelines from a command: signals, progress, and one exit code for all."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from fusepipe.cli import failure_document
from fusepipe.commands.progress import ProgressLine
from fusepipe.errors import FusepipeError, Interrupted, message_lines, printable
from fusepipe.systemd import Progress, ServiceManager

if TYPE_CHECKING:
    from fusepipe.app import Pipeline
    from fusepipe.report import RunReport

POLL_S = 0.25
OUTPUT_STANDS_S = 20.0  # longer than any camera may take to be found lost; a first engine compiles meanwhile
LOG_FORMAT = "%(asctime)s %(message)s"


def show_log() -> None:
    """Events of live rigs (a camera is lost, the state changes) go to standard error, with the time."""
    if sys.stderr is None:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(LOG_FORMAT, "%H:%M:%S"))
    logger = logging.getLogger("fusepipe")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Counts SIGINT, SIGTERM and SIGHUP instead of dying of them; ``raising`` turns one into an exception.

    The handler only counts: taking a lock in a signal handler can deadlock. While nothing runs yet
    (inputs are opened, engines compiled) it raises :class:`Interrupted`, which ends those at once.
    """

    def __init__(self) -> None:
        self.count = 0
        self._raising = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._before.items():
            signal.signal(number, previous)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within this, a signal raises :class:`Interrupted` in the main thread."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._raising:
            raise Interrupted("interrupted before anything was written")


@dataclass
class Outcome:
    """What became of the pipelines of one command: records, errors, and whether a thread hangs."""

    reports: list[RunReport] = field(default_factory=list)
    errors: list[FusepipeError] = field(default_factory=list)
    interrupted: bool = False
    stuck: bool = False

    @property
    def exit_code(self) -> int:
        """That of the first error, 130 when interrupted, else 0."""
        if self.interrupted:
            return Interrupted.exit_code
        return self.errors[0].exit_code if self.errors else 0


def run_all(pipelines: Sequence[Pipeline], *, quiet: bool) -> Outcome:
    """Opens and starts all, waits for all: one rig's failure is not another's.

    The first signal drains every pipeline, a second one stops them at once.
    """
    show_log()
    outcome = Outcome()
    running: list[Pipeline] = []
    with StopSignals() as signals:
        for pipeline in pipelines:
            try:
                with signals.raising():
                    pipeline.open()
                pipeline.start()
                running.append(pipeline)
                for text in pipeline.announcements():  # also when quiet: a token is known from nowhere else
                    click.echo(printable(text), err=True)
            except Interrupted:
                break
            except (FusepipeError, OSError, MemoryError, RuntimeError) as error:
                outcome.errors.append(_named(pipeline, error))
        outcome.interrupted = signals.count > 0
        waiting, seen = list(running), 0
        manager = ServiceManager()
        if running:
            manager.ready(f"running {', '.join(p.rig.name for p in running)}")
        outputs = [Progress(OUTPUT_STANDS_S) for _ in running]
        with ProgressLine(running, enabled=not quiet) as progress:
            while waiting:
                if signals.count > seen:
                    seen, outcome.interrupted = signals.count, True
                    manager.stopping()
                    for pipeline in waiting:
                        pipeline.interrupt()
                for pipeline in list(waiting):
                    try:
                        if pipeline.wait(POLL_S / len(waiting)):
                            waiting.remove(pipeline)
                    except FusepipeError as error:  # a thread hangs in a system call
                        waiting.remove(pipeline)
                        outcome.errors.append(error)
                        outcome.stuck = True
                progress.update()
                now_s = time.monotonic()
                # a live output never stops by itself: one that stands is what the watchdog is for
                if all(
                    o.goes_on(p.statistics.fused, now_s) or p not in waiting or not p.live
                    for o, p in zip(outputs, running, strict=True)
                ):
                    manager.alive(now_s)
    for pipeline in running:
        try:
            if pipeline.finished:
                pipeline.raise_error()
        except FusepipeError as error:
            outcome.errors.append(error)
    outcome.reports = [pipeline.report() for pipeline in running]
    return outcome


def _named(pipeline: Pipeline, error: BaseException) -> FusepipeError:
    if isinstance(error, FusepipeError):
        return error
    named = FusepipeError(f"{pipeline.rig.name}: {type(error).__name__}: {error}")
    named.__cause__ = error
    return named


def finish(outcome: Outcome, *, as_json: bool) -> None:
    """Prints the records and ends the command with the outcome's exit code.

    With ``as_json`` the one document on standard output says all of it, errors included.
    """
    code = outcome.exit_code
    if as_json:
        document = failure_document(code, outcome.errors) | {"rigs": [r.as_json() for r in outcome.reports]}
        click.echo(json.dumps(document, indent=2))
    else:
        for report in outcome.reports:
            for text in report.summary():
                click.echo(printable(text))
    for error in outcome.errors:
        for text in message_lines(error):
            click.echo(f"fusepipe: error: {text}", err=True)
    if outcome.interrupted:
        kept = "; files are finalised" if outcome.reports and not outcome.stuck else ""
        click.echo(f"fusepipe: interrupted{kept}", err=True)
    if outcome.stuck:  # joining a thread that hangs would hang this process too
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise click.exceptions.Exit(code)
