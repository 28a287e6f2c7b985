"""``fusepipe run``: one, several or all rigs of a rigs.yaml."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusepipe.commands.console.completion import complete_rigs
from fusepipe.commands.console.options import (
    Duration,
    examples,
    json_option,
    overwrite_option,
    strict_option,
    verbose_option,
)
from fusepipe.commands.console.processes import ProcessCount, commands_of, finish_processes
from fusepipe.commands.console.run_end import finish
from fusepipe.core.errors import ConfigError, FusepipeError
from fusepipe.core.imports import without_collection

if TYPE_CHECKING:
    from fusepipe.config.schema import Rig
    from fusepipe.rig.api import Pipeline
    from fusepipe.rig.report.dry_run import DryRun


@click.command(
    "run",
    epilog=examples(
        "fusepipe run --rig rigs.yaml --name demo --overwrite",
        "fusepipe run --duration 10min --json",
    ),
)
@click.option(
    "--rig", "file", type=click.Path(path_type=Path), default="rigs.yaml", help="The rig file, or a folder of them."
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="RIG",
    shell_complete=complete_rigs,
    help="Run this rig; may be repeated.",
    show_default="all",
)
@click.option(
    "--preview",
    metavar="URL",
    help="Serve one page with /metrics for all rigs, also those without a preview sink: http://127.0.0.1:8080.",
)
@click.option(
    "--processes",
    type=ProcessCount(),
    metavar="N|auto",
    default="1",
    help="Processes that share the rigs; auto: one a rig, at most 4 a core. Pages: from the port of --preview on.",
)
@click.option("--duration", type=Duration(), help="Stop after this time (of the recording, or live): 10s, 5min.")
@click.option("--max-pairs", type=click.IntRange(min=1), help="Stop after this many pairs.")
@click.option("--dry-run", is_flag=True, help="Open the inputs, compile the engine, check the outputs; write nothing.")
@click.option("--quiet", is_flag=True, help="No progress line.")
@click.option("--restarted", is_flag=True, hidden=True, help="Keep what the failed process before has written.")
@strict_option
@overwrite_option
@verbose_option
@json_option
def command(
    file: Path,
    names: tuple[str, ...],
    preview: str | None,
    processes: int,
    duration: float | None,
    max_pairs: int | None,
    dry_run: bool,
    quiet: bool,
    restarted: bool,
    strict: bool,
    overwrite: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Run one, several or all rigs of a rigs.yaml, or of all rig files in a folder, at the same time.

    Ctrl-C finalises the files; a second Ctrl-C aborts without waiting for frames in the pipeline. SIGTERM does the
    same, and the exit code is 0. SIGHUP reloads the rig file and applies the settings that can change while running.

    With --processes the rigs are shared out to several processes. One that is killed, or does not respond, is started
    again; live rigs of the others go on meanwhile.
    """
    from fusepipe.config.rig_path import require_rig_file

    require_rig_file(file)  # before the models of its keys are built, which takes longer than the answer
    if processes > 1 and not dry_run:
        flags = {"--strict": strict, "--overwrite": overwrite, "--verbose": verbose, "--json": as_json}
        values = {"--duration": duration and f"{duration}s", "--max-pairs": max_pairs}
        words = [flag for flag, given in flags.items() if given]
        words += [f"{name}={value}" for name, value in values.items() if value is not None]
        _run_processes(file, names, preview, processes, words)
    with without_collection():
        from fusepipe.config.rig_folder import RigSelection, load_rigs
        from fusepipe.rig.api import Pipeline
        from fusepipe.rig.process.run_rigs import run_rigs

    def read() -> RigSelection:
        return load_rigs(file, list(names) or None, preview=preview)

    selection = read()
    pipelines = [
        Pipeline(rig, overwrite=overwrite, max_pairs=max_pairs, duration_s=duration, strict=strict, restarted=restarted)
        for rig in selection.rigs
    ]
    if dry_run:
        shares = _shares(file, names, preview, processes)[1] if processes > 1 else []
        _show_plans([_plan(pipeline) for pipeline in pipelines], shares, as_json=as_json)
        if selection.refused:
            raise ConfigError(problems=selection.problems)
        return
    outcome = run_rigs(pipelines, quiet=quiet or as_json, refused=selection.refused, read=read, service=True)
    finish(outcome, as_json=as_json, verbose=verbose)


def _run_processes(file: Path, names: tuple[str, ...], preview: str | None, processes: int, words: list[str]) -> None:
    """Ends the command, unless there is nothing to share out: then it returns."""
    from fusepipe.config.rig_folder import RigSelection, load_rigs
    from fusepipe.rig.process.run_workers import run_workers

    def read() -> RigSelection:
        return load_rigs(file, list(names) or None)

    rigs, shares = _shares(file, names, preview, processes)
    if len(shares) == 1:
        return
    commands = commands_of(shares, [f"--rig={file}", "--quiet", *words], preview)
    outcome = run_workers(shares, commands, read=read)
    finish_processes(outcome, rigs, as_json="--json" in words)


def _shares(
    file: Path, names: tuple[str, ...], preview: str | None, processes: int
) -> tuple[list[str], list[list[Rig]]]:
    """The names of all rigs, and the rigs of each process. Raises :class:`UsageError` where pages have no ports."""
    from fusepipe.config.rig_folder import load_rigs
    from fusepipe.rig.process.shares import rig_shares

    load_rigs(file, list(names) or None, preview=preview)  # refuses a wrong address
    rigs = load_rigs(file, list(names) or None).rigs
    shares = rig_shares(rigs, processes)
    commands_of(shares, [], preview)  # refuses ports that are taken
    wanted, made = min(processes, len(rigs)), len(shares)
    if made < wanted:
        number = f"{made} {'process' if made == 1 else 'processes'} instead of {wanted}"
        click.echo(f"fusepipe: {number}: rigs that serve on one port stay together", err=True)
    return [rig.name for rig in rigs], shares


def _show_plans(plans: Sequence[DryRun], shares: Sequence[Sequence[Rig]], *, as_json: bool) -> None:
    """Prints what would run, and which rigs in which process."""
    from dataclasses import asdict

    from fusepipe.core.redact import hide_in, hide_known

    processes = [[rig.name for rig in share] for share in shares]
    if as_json:
        document = {"ok": True, "plans": hide_in([asdict(plan) for plan in plans])}
        click.echo(json.dumps(document | ({"processes": processes} if processes else {}), indent=2))
        return
    click.echo("\n".join(hide_known(text) for plan in plans for text in plan.summary()))
    for number, rigs in enumerate(processes, 1):
        click.echo(f"process {number}: {', '.join(rigs)}")


def _plan(pipeline: Pipeline) -> DryRun:
    from fusepipe.rig.process.start import with_rig_name

    try:
        return pipeline.dry_run()
    except FusepipeError as error:
        raise with_rig_name(pipeline.rig, error) from error.__cause__
