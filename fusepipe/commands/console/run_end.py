"""How ``run`` and ``fuse`` end: the reports of the rigs on standard output, errors on standard error, the exit code."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from fusepipe.core.errors import failure_document, message_lines, printable
from fusepipe.core.redact import hide_in, hide_known

if TYPE_CHECKING:
    from fusepipe.rig.process.outcome import RunOutcome


def finish(outcome: RunOutcome, *, as_json: bool, verbose: bool = False) -> NoReturn:
    """Prints the reports, with ``verbose`` all their figures, and ends the command with the outcome's exit code.

    With ``as_json`` standard output is one JSON document, errors included.
    """
    code = outcome.exit_code
    if as_json:
        document = failure_document(code, outcome.errors) | {"rigs": [r.as_json() for r in outcome.reports]}
        click.echo(json.dumps(hide_in(document), indent=2))
    else:
        from fusepipe.rig.report.summary import summary_lines

        ran = [report for report in outcome.reports if report.engine]
        for report in outcome.reports if ran else ():  # else the errors say it all
            for text in summary_lines(report, verbose=verbose):
                click.echo(printable(hide_known(text)))
    for error in outcome.errors:
        for text in message_lines(error):
            click.echo(f"fusepipe: error: {text}", err=True)
    if outcome.interrupted:
        written = any(report.written for report in outcome.reports)
        kept = "; files are finalised" if written and not outcome.stuck else ""
        how = "stopped by SIGTERM" if outcome.terminated else "interrupted"
        click.echo(f"fusepipe: {how}{kept}", err=True)
    if not outcome.errors:  # which say it as well
        for report in outcome.reports:
            if report.shortfall:
                click.echo(f"fusepipe: WARNING: {printable(report.rig)}: {printable(report.shortfall)}", err=True)
    if outcome.stuck or outcome.blocked:  # joining a thread that hangs would hang this process too
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise click.exceptions.Exit(code)
