"""``fusepipe train describe``: the parts of the networks, with their shapes and costs."""

from __future__ import annotations

import json

import click

from fusepipe.commands.console.options import SizeOption, examples
from fusepipe.commands.console.training import require_training


@click.command(
    "describe",
    short_help="Print the parts of the networks.",
    epilog=examples(
        "fusepipe train describe --size 640x480",
    ),
)
@click.option("--config", default="default", help="'default' or a YAML file.")
@click.option("--size", type=SizeOption(), default="640x480", help="Image size for the shapes and costs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
def command(config: str, size: tuple[int, int], as_json: bool) -> None:
    """Print the parts of `mfe` and the students: shapes, parameters, multiply-accumulates per pixel."""
    require_training()
    from fusepipe.train.configs.mfe import load_mfe_config
    from fusepipe.train.describe import describe_models, parts_table

    width, height = size
    found = describe_models(load_mfe_config(config).network, height, width)
    click.echo(json.dumps([part.as_json() for part in found], indent=2) if as_json else parts_table(found))
