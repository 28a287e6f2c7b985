"""``fusepipe validate``: checks a rigs.yaml and lists its problems with line numbers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fusepipe.commands.console.completion import complete_rigs
from fusepipe.commands.console.options import examples, json_option

EXIT_CONFIG = 2


@click.command(
    "validate",
    epilog=examples(
        "fusepipe validate rigs.yaml --name demo",
        "fusepipe validate --schema",
    ),
)
@click.argument("file", default="rigs.yaml", type=click.Path(path_type=Path))
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="RIG",
    shell_complete=complete_rigs,
    help="Check this rig as it would run; may be repeated.",
)
@click.option("--schema", is_flag=True, help="Print the JSON schema of the file and exit.")
@json_option
@click.pass_context
def command(ctx: click.Context, file: Path, names: tuple[str, ...], schema: bool, as_json: bool) -> None:
    """Check FILE (default: rigs.yaml): its keys, values, names and paths.

    Every problem is one line with file:line and the key. An unset environment variable is a problem of rigs
    selected with --name, and a note for the others. Nothing is opened: 'fusepipe run --dry-run' checks
    cameras and files.
    """
    from fusepipe.core.errors import ConfigError
    from fusepipe.core.redact import hide_in, hide_known
    from fusepipe.rig.validate import validate

    if schema:
        from fusepipe.config.json_schema import json_schema

        click.echo(json.dumps(json_schema(), indent=2))
        return
    report = validate(file, names)
    if as_json:
        click.echo(json.dumps(hide_in(report.as_json()), indent=2))
        ctx.exit(0 if report.ok else EXIT_CONFIG)
    if not report.ok:
        raise ConfigError(problems=report.problems)
    click.echo(hide_known(report.text()))
