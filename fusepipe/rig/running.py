"""Running pipelines from a command: signals, progress, and one exit code for all."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from fusepipe.cli import failure_document
from fusepipe.commands.progress import ProgressLine
from fusepipe.core.errors import FusepipeError, Interrupted, message_lines, printable
from fusepipe.rig.systemd import Progress, ServiceManager

if TYPE_CHECKING:
    from fusepipe.config.schema import Rig
    from fusepipe.rig.report import RunReport
    from fusepipe.rig.run import Pipeline

log = logging.getLogger(__name__)

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


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class StopSignals:
    """Counts SIGINT, SIGTERM and SIGHUP instead of dying of them; ``raising`` turns one into an exception.

    The handler only counts: taking a lock in a signal handler can deadlock. While nothing runs yet
    (inputs are opened, engines compiled) it raises :class:`Interrupted`, which ends those at once.

    With ``reloads``, SIGHUP counts there, unless it says that the terminal of this process is gone.
    """

    def __init__(self, *, reloads: bool = False) -> None:
        self.count = 0
        self.reload_count = 0
        self._reloads = reloads
        self._had_terminal = has_terminal()
        self._raising = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            # nohup's wish is kept; a shell's background job is born deaf to SIGINT, yet must end when told to
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
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
        if number == signal.SIGHUP and self._reloads and (has_terminal() or not self._had_terminal):
            self.reload_count += 1
            return
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


def run_all(pipelines: Sequence[Pipeline], *, quiet: bool, read: Callable[[], Sequence[Rig]] | None = None) -> Outcome:
    """Opens and starts all, waits for all: one rig's failure is not another's.

    The first signal drains every pipeline, a second one stops them at once; at SIGHUP ``read`` gives the rigs anew.
    """
    show_log()
    outcome = Outcome()
    running: list[Pipeline] = []
    with StopSignals(reloads=read is not None) as signals:
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
        waiting, seen, reloaded = list(running), 0, 0
        manager = ServiceManager()
        status = f"running {', '.join(p.rig.name for p in running)}"
        if running:
            manager.ready(status)
        outputs = [Progress(OUTPUT_STANDS_S) for _ in running]
        with ProgressLine(running, enabled=not quiet) as progress:
            while waiting:
                if signals.count > seen:
                    seen, outcome.interrupted = signals.count, True
                    manager.stopping()
                    for pipeline in waiting:
                        pipeline.interrupt()
                if signals.reload_count > reloaded and read is not None:
                    reloaded = signals.reload_count
                    manager.reloading(time.monotonic_ns())
                    reload(waiting, read)
                    manager.ready(status)
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


def reload(running: Sequence[Pipeline], read: Callable[[], Sequence[Rig]]) -> None:
    """Reads the rigs again and gives them to the pipelines that run; an invalid file changes nothing."""
    try:
        rigs = {rig.name: rig for rig in read()}
    except FusepipeError as error:
        for text in message_lines(error):
            log.error("read again: %s", text)
        log.error("read again: the file is not valid; nothing was changed")
        return
    lines = []
    for pipeline in running:
        rig = rigs.pop(pipeline.rig.name, None)
        if rig is None:
            lines.append(f"{pipeline.rig.name}: is not in the file any more: needs a restart; it goes on as it was")
        else:
            lines += pipeline.reconfigure(rig)
    lines += [f"{name}: does not run: needs a restart" for name in rigs]
    for text in lines or ["nothing has changed"]:
        log.info("read again: %s", printable(text))


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
