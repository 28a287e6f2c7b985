"""``fusepipe run --processes``: the command of each process, and how the run ends."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import click

from fusepipe.core.errors import UsageError, failure_document, message_lines, printable
from fusepipe.core.machine import usable_cores
from fusepipe.core.redact import hide_in

if TYPE_CHECKING:
    from fusepipe.config.schema import Rig
    from fusepipe.rig.process.run_workers import WorkersOutcome

MAX_PORT = 65535
# More rigs of one process than one wait for each other; more than this a core are too slow in any number of processes
AUTO_PER_CORE = 4


class ProcessCount(click.ParamType[int]):
    """A number of processes, or ``auto``: one a rig, at most ``AUTO_PER_CORE`` for each core this process may use."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "auto":
            return max(1, int(AUTO_PER_CORE * usable_cores()))
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} should be a number from 1 on, or auto", param, ctx)
        return number


def commands_of(shares: Sequence[Sequence[Rig]], words: Sequence[str], preview: str | None) -> list[list[str]]:
    """How each process is started: ``fusepipe run`` with ``words``, and a page with a port of its own.

    The first page has the port of ``preview``, each further one the next port. Raises :class:`UsageError` if there are
    not so many ports, or if a rig of another process serves on one.
    """
    # the interpreter of this process with its own path, as a script or with -m it might have another one
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; from fusepipe.core.parent_process import end_with_parent; "
        f"end_with_parent({os.getpid()}); from fusepipe.cli import main; main()"
    )
    start = [sys.executable, "-c", program, "run", *words]
    pages = [None] * len(shares) if preview is None else _pages(preview, shares)
    return [start if page is None else [*start, f"--preview={page}"] for page in pages]


def _pages(preview: str, shares: Sequence[Sequence[Rig]]) -> list[str | None]:
    from fusepipe.rig.process.shares import served_ports

    address = urlsplit(preview)
    host, first = address.netloc.rpartition(":")[0], address.port or 0
    last = first + len(shares) - 1
    if last > MAX_PORT:
        raise UsageError(f"--preview: {len(shares)} processes need the ports {first} to {last}: choose a lower one")
    for number, share in enumerate(shares):
        for rig in share:
            if taken := served_ports(rig) & (set(range(first, last + 1)) - {first + number}):
                raise UsageError(
                    f"--preview: {len(shares)} processes serve pages on the ports {first} to {last}, and rig "
                    f"{rig.name} serves on {min(taken)} already: choose another port for --preview"
                )
    return [f"{address.scheme}://{host}:{first + number}" for number in range(len(shares))]


def finish_processes(outcome: WorkersOutcome, rigs: Sequence[str], *, as_json: bool) -> NoReturn:
    """Prints what the processes have reported, and ends the command with the outcome's exit code."""
    code = outcome.exit_code
    if as_json:
        click.echo(json.dumps(hide_in(_document(outcome, rigs)), indent=2))
    else:
        for worker in outcome.workers:
            click.echo(worker.output, nl=False)
    for error in outcome.errors:
        for text in message_lines(error):
            click.echo(f"fusepipe: error: {text}", err=True)
    for worker in outcome.workers:
        if worker.restarts:
            names = ", ".join(worker.rigs)
            times = "once" if worker.restarts == 1 else f"{worker.restarts} times"
            click.echo(
                f"fusepipe: WARNING: the process of {printable(names)} was started again {times}; "
                f"its report is of the last run (last failure: {worker.failure})",
                err=True,
            )
    if outcome.interrupted:
        click.echo(f"fusepipe: {'stopped by SIGTERM' if outcome.terminated else 'interrupted'}", err=True)
    raise click.exceptions.Exit(code)


def _document(outcome: WorkersOutcome, rigs: Sequence[str]) -> dict[str, Any]:
    """One document of those of the processes; a file that cannot be read is in each of them, and in this once."""
    found: dict[str, dict[str, Any]] = {}
    errors: list[dict[str, Any]] = failure_document(outcome.exit_code, outcome.errors)["errors"]
    for worker in outcome.workers:
        document = json.loads(worker.output) if worker.output.strip() else {}
        for report in document.get("rigs", []):
            found.setdefault(report["rig"], report)
        errors += [error for error in document.get("errors", []) if error not in errors]
    place = {name: number for number, name in enumerate(rigs)}
    processes = [
        {"rigs": w.rigs, "exit_code": w.exit_code, "restarts": w.restarts, "failure": w.failure or None}
        for w in outcome.workers
    ]
    code = outcome.exit_code
    reports = sorted(found.values(), key=lambda report: place.get(report["rig"], len(place)))
    return {"ok": code == 0, "exit_code": code, "errors": errors, "rigs": reports, "processes": processes}
