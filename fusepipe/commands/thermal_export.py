"""``fusepipe thermal export``: the frames of an infrared recording as 16-bit TIFF or CSV files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from fusepipe.commands.console.options import (
    Duration,
    RadiometryOption,
    examples,
    json_option,
    overwrite_option,
    radiometry_option,
)


@click.command(
    "export",
    short_help="Frames as 16-bit TIFF or CSV files.",
    epilog=examples(
        "fusepipe thermal export thermal.mkv -o counts/",
        "fusepipe thermal export thermal.mkv -o degrees/ --format csv --unit celsius --from 10s --to 12s",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--format", "form", type=click.Choice(["tiff", "csv"]), default="tiff", help="Format of the files.")
@click.option(
    "--unit",
    type=click.Choice(["counts", "celsius", "kelvin"]),
    default="counts",
    help="What is written: counts (in TIFF 16-bit), or temperatures (in TIFF floating point).",
)
@click.option("--from", "from_s", type=Duration(zero=True), help="Time of the first frame.", show_default="the start")
@click.option("--to", "to_s", type=Duration(zero=True), help="Time of the last frame.", show_default="the end")
@radiometry_option
@overwrite_option
@json_option
def command(
    file: Path,
    folder: Path,
    form: Literal["tiff", "csv"],
    unit: Literal["counts", "celsius", "kelvin"],
    from_s: float | None,
    to_s: float | None,
    radiometry: RadiometryOption,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the frames of FILE into a folder, one file each, with frames.json: their times and what they measure.

    FILE is an infrared recording, a radiometric JPEG, a TIFF, a folder or any other file of an infrared camera. Frames
    of counts in TIFF are again an infrared input of fusepipe.
    """
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.workflows.thermal_export import Export, export_frames

    export = Export(file, folder, form, unit, from_s, to_s, radiometry, overwrite)
    with ProgressBar("export", enabled=not as_json) as progress:
        done = export_frames(export, progress.step)
    if as_json:
        click.echo(json.dumps({"ok": True, "exit_code": 0, "errors": [], **done.as_json()}, indent=2))
    else:
        click.echo(done.text())
