"""``fusepipe fuse``: two images, two folders paired by stem, or two videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fusepipe.commands.console.completion import backend_option, model_option, precision_option
from fusepipe.commands.console.options import (
    agc_option,
    device_option,
    examples,
    json_option,
    overwrite_option,
    range_option,
    reframing_options,
    strict_option,
    verbose_option,
)
from fusepipe.commands.console.run_end import finish
from fusepipe.core.imports import without_collection


@click.command(
    "fuse",
    epilog=examples(
        "fusepipe fuse ir/0001.png vis/0001.png -o one.png",
        "fusepipe fuse ir vis -o fused/ --format jpg",
        "fusepipe fuse infrared.mkv visible.mkv -o fused.mkv --calibration roof.calibration.yaml",
    ),
)
@click.argument("infrared", type=click.Path(path_type=Path))
@click.argument("visible", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, help="An image, a folder, or a video (mkv, mp4, mov, avi, webm).")
@model_option()
@backend_option
@precision_option
@click.option("--engine", type=click.Path(path_type=Path), help="An engine file from build-engine.")
@device_option
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Calibration file.",
    show_default="infrared is scaled to visible",
)
@range_option
@agc_option
@click.option(
    "--polarity", type=click.Choice(["white-hot", "black-hot"]), help="black-hot inverts the infrared images."
)
@click.option(
    "--telemetry",
    type=click.Choice(["lepton", "boson"]),
    help="Telemetry rows of infrared images: cut off and read.",
)
@click.option(
    "--denoise", type=click.Choice(["infrared", "visible", "both"]), help="Smooth the images of a noisy camera."
)
@click.option(
    "--visible-range", type=float, nargs=2, metavar="LO HI", help="Counts of black and white of a 16-bit visible image."
)
@click.option(
    "--byte-order",
    type=click.Choice(["little", "big"]),
    help="Byte order of 16-bit infrared images, where it is not the format's.",
)
@click.option("--visible-byte-order", type=click.Choice(["little", "big"]), help="Byte order of 16-bit visible images.")
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["png", "jpg", "tif"]),
    help="Format of the images of an output folder.",
    show_default="png",
)
@click.option(
    "--pair-by",
    type=click.Choice(["name", "order", "time"]),
    help="How images or frames are paired.",
    show_default="auto",
)
@click.option("--offset", metavar="TIME", help="Added to the infrared capture times, such as -15ms.")
@click.option(
    "--tolerance", metavar="TIME", help="Largest difference between the capture times of a pair.", show_default="20ms"
)
@click.option(
    "--on-missing",
    type=click.Choice(["hold", "interpolate", "drop", "single"]),
    help="What a visible frame without an infrared one of its time shows.",
    show_default="hold",
)
@reframing_options
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="CAMERA.KEY=VALUE",
    help="Any other key of a camera, as in a rig file: infrared.repair.stripes=columns; may be repeated.",
)
@click.option(
    "--decoder",
    type=click.Choice(["auto", "nvdec", "software"]),
    default="auto",
    help="How videos are decoded.",
)
@click.option(
    "--colour",
    type=click.Choice(["visible", "weighted", "grey"]),
    help="The visible colours as they are, faded where detail comes from the infrared image, or none.",
    show_default="visible",
)
@click.option("--grey", is_flag=True, help="Write luma only, without the visible colours.")
@click.option("--swap", is_flag=True, help="The first input is the visible one, the second the infrared one.")
@strict_option
@overwrite_option
@verbose_option
@json_option
def command(as_json: bool, verbose: bool, **options: Any) -> None:
    """Fuse INFRARED and VISIBLE: two images, two folders (paired by stem), or two videos.

    A multi-page TIFF or an animated image is a video. VIDEO?stream=1 is one of several video streams of a file.
    """
    with without_collection():
        from fusepipe.rig.fuse import FuseOptions, fuse_pipeline

        pipeline = fuse_pipeline(FuseOptions(**options))
        from fusepipe.rig.process.run_rigs import run_rigs  # after the names were checked, which needs none of it

    finish(run_rigs([pipeline], quiet=as_json), as_json=as_json, verbose=verbose)
