"""Running pipelines from a command: signals, progress, and one exit code for all."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from fusepipe.commands.progress import ProgressLine
from fusepipe.errors import FusepipeError, Interrupted

if TYPE_CHECKING:
    from fusepipe.app import Pipeline
    from fusepipe.report import RunReport

POLL_S = 0.25


@contextmanager
def stop_signals(handler: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call ``handler`` instead of killing the process."""

    def handle(number: int, frame: FrameType | None) -> None:
        handler()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def run_all(pipelines: Sequence[Pipeline], *, quiet: bool) -> tuple[list[RunReport], list[FusepipeError]]:
    """Starts all, waits for all, and gives their records and errors: one rig's failure is not another's.

    SIGINT or SIGTERM drains every pipeline; a second one stops at once.
    """
    errors: list[FusepipeError] = []
    running: list[Pipeline] = []

    def interrupt() -> None:
        for pipeline in running:
            pipeline.interrupt()

    with stop_signals(interrupt):
        for pipeline in pipelines:
            try:
                pipeline.start()
                running.append(pipeline)
            except FusepipeError as error:
                errors.append(error)
        with ProgressLine(running, enabled=not quiet) as progress:
            for pipeline in running:
                try:
                    while not pipeline.wait(POLL_S):
                        progress.update()
                except FusepipeError as error:
                    _leave_stuck(pipeline, error)
    for pipeline in running:
        try:
            pipeline.raise_error()
        except FusepipeError as error:
            errors.append(error)
    return [pipeline.report() for pipeline in running], errors


def _leave_stuck(pipeline: Pipeline, error: FusepipeError) -> None:
    """A thread hangs in a system call: say so and leave, for joining it would hang this process too."""
    click.echo(f"fusepipe: error: {pipeline.rig.name}: {error}", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.exit_code)


def finish(reports: Sequence[RunReport], errors: Sequence[FusepipeError], *, as_json: bool) -> None:
    """Prints the records and ends the command: exit code 0, that of the first error, or 130.

    With ``as_json`` the one document on standard output says all of it, errors included.
    """
    interrupted = any(report.interrupted for report in reports)
    code = errors[0].exit_code if errors else Interrupted.exit_code if interrupted else 0
    if as_json:
        failures = [{"type": type(e).__name__, "message": str(e), "exit_code": e.exit_code} for e in errors]
        document = {"ok": code == 0, "exit_code": code, "rigs": [r.as_json() for r in reports], "errors": failures}
        click.echo(json.dumps(document, indent=2))
    else:
        for text in (text for report in reports if report.ok for text in report.summary()):
            click.echo(text)
    for error in errors:
        click.echo(f"fusepipe: error: {error}", err=True)
    if interrupted and not errors:
        click.echo("fusepipe: interrupted; files are finalised", err=True)
    raise click.exceptions.Exit(code)
