"""``fusepipe data``: the group of commands for image data sets, one module each."""

from __future__ import annotations

import click

from fusepipe.commands import data_tno


@click.group("data")
def command() -> None:
    """Download and arrange image data sets."""


command.add_command(data_tno.command)
