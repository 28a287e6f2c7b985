"""``fusepipe thermal read``: temperatures of pixels and boxes of an infrared recording or image."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fusepipe.commands.console.options import Duration, RadiometryOption, examples, json_option, radiometry_option

_PIXEL = click.IntRange(0, 65535)
_SIDE = click.IntRange(1, 65535)


@click.command(
    "read",
    short_help="Temperatures of pixels and boxes.",
    epilog=examples(
        "fusepipe thermal read thermal.mkv --at 12.5s --xy 320 240",
        "fusepipe thermal read FLIR0042.jpg --box 300 200 40 40",
        "fusepipe thermal read counts.tiff --xy 10 20 --radiometry kelvin 0.01 0",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--at", "at_s", type=Duration(zero=True), help="Time of the frame.", show_default="the first frame")
@click.option("--xy", "points", type=(_PIXEL, _PIXEL), multiple=True, metavar="X Y", help="A pixel; may be repeated.")
@click.option(
    "--box",
    "boxes",
    type=(_PIXEL, _PIXEL, _SIDE, _SIDE),
    multiple=True,
    metavar="X Y W H",
    help="A box of pixels: its lowest, mean and highest temperature.",
    show_default="without --xy the whole image",
)
@radiometry_option
@json_option
def command(
    file: Path,
    at_s: float | None,
    points: tuple[tuple[int, int], ...],
    boxes: tuple[tuple[int, int, int, int], ...],
    radiometry: RadiometryOption,
    as_json: bool,
) -> None:
    """Read temperatures of one frame of FILE: an infrared recording, a radiometric JPEG, a TIFF, any 16-bit image.

    Pixels are those of the infrared image, from (0, 0) at the upper left corner. Of a file that does not say what its
    counts measure, they are printed as counts; --radiometry gives them a unit.
    """
    from fusepipe.core.redact import hide_known
    from fusepipe.workflows.thermal_read import read_temperatures

    reading = read_temperatures(file, at_s, points, boxes, radiometry)
    if as_json:
        click.echo(json.dumps({"ok": True, "exit_code": 0, "errors": [], **reading.as_json()}, indent=2))
    else:
        click.echo("\n".join(map(hide_known, reading.lines())))
