"""Running pipelines from a command: signals, progress, and one exit code for all."""

from __future__ import annotations

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


def finish(reports: Sequence[RunReport], errors: Sequence[FusepipeError]) -> None:
    """Raises the first error (the others are printed), or :class:`Interrupted`."""
    for error in errors[1:]:
        click.echo(f"fusepipe: error: {error}", err=True)
    if errors:
        raise errors[0]
    if any(report.interrupted for report in reports):
        raise Interrupted("interrupted; files are finalised")
