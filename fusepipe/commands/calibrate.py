"""``fusepipe calibrate``: the group of calibration commands, one module each."""

from __future__ import annotations

import click

from fusepipe.commands import calibrate_board, calibrate_check, calibrate_convert, calibrate_scene


@click.group("calibrate")
def command() -> None:
    """Calibrate a rig: from a board, or from the scene itself; check and convert calibration files."""


for module in (calibrate_board, calibrate_scene, calibrate_check, calibrate_convert):
    command.add_command(module.command)
