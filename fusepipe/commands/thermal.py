"""``fusepipe thermal``: the group of commands for the counts and temperatures of thermal cameras, one module each."""

from __future__ import annotations

import click

from fusepipe.commands import thermal_export, thermal_read


@click.group("thermal")
def command() -> None:
    """Read and export the temperatures of infrared recordings and images."""


command.add_command(thermal_read.command)
command.add_command(thermal_export.command)
