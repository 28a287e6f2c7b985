"""``fusepipe calibrate convert``: calibration files from and to OpenCV and kalibr."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusepipe.commands.console.options import Length, check_output_file, examples, overwrite_option

if TYPE_CHECKING:
    from fusepipe.calibration.file.exchange import Format, LengthUnit


@click.command(
    "convert",
    short_help="Convert a calibration from or to OpenCV's stereo files.",
    epilog=examples(
        "fusepipe calibrate convert stereo.yml -o roof.calibration.yaml --unit mm",
    ),
)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option(
    "--to",
    "form",
    type=click.Choice(["fusepipe", "opencv", "kalibr"]),
    help="Format to write.",
    show_default="fusepipe, from it opencv",
)
@click.option(
    "--plane-distance", type=Length(), help="Distance at which the images are aligned; other formats do not have it."
)
@click.option("--infrared-camera", type=click.IntRange(0, 1), default=0, help="Index of the infrared camera.")
@click.option(
    "--unit",
    type=click.Choice(["m", "cm", "mm"]),
    help="Unit of the translation in SOURCE, that of the board's squares.",
    show_default="m; has to be given for over 2 m",
)
@overwrite_option
def command(
    source: Path,
    output: Path,
    form: Format | None,
    plane_distance: float | None,
    infrared_camera: int,
    unit: LengthUnit | None,
    overwrite: bool,
) -> None:
    """Convert SOURCE from or to OpenCV's stereo files (stereoCalibrate) and kalibr's camera chains."""
    from fusepipe.workflows.calibrate_convert import convert_calibration

    check_output_file(output, overwrite)
    done = convert_calibration(
        source,
        output,
        form,
        plane_distance_m=plane_distance,
        infrared_camera=infrared_camera,
        unit=unit,
        overwrite=overwrite,
    )
    click.echo(f"wrote {output} ({done.source_format} to {done.output_format})")
