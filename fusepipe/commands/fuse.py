"""``fusepipe fuse``: two images, two folders paired by stem, or two videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fusepipe.commands.finish import finish
from fusepipe.commands.options import json_option, overwrite_option

VIDEO_SUFFIXES = {".mkv", ".mp4"}


@click.command("fuse")
@click.argument("infrared", type=click.Path(path_type=Path))
@click.argument("visible", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="An image, a folder, or a video.")
@click.option("--model", default="stream", show_default=True, help="stream, stream-hq, pyramid, mean, max ...")
@click.option("--backend", default="auto", show_default=True, help="What computes it.")
@click.option("--precision", default="auto", show_default=True, help="fp32, fp16, bf16, int8 or auto.")
@click.option("--engine", type=click.Path(path_type=Path), help="An engine that build-engine made.")
@click.option("--calibration", type=click.Path(path_type=Path), help="Calibration file; default: sizes are matched.")
@click.option("--range", "count_range", type=int, nargs=2, metavar="LO HI", help="Infrared counts of black and white.")
@click.option("--format", "image_format", type=click.Choice(["png", "jpg", "tif"]), help="Of a folder's images [png].")
@click.option("--grey", is_flag=True, help="Write luma only, without the visible colours.")
@overwrite_option
@json_option
def command(
    infrared: Path,
    visible: Path,
    output: Path,
    model: str,
    backend: str,
    precision: str,
    engine: Path | None,
    calibration: Path | None,
    count_range: tuple[int, int] | None,
    image_format: str | None,
    grey: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Fuse INFRARED and VISIBLE: two images, two folders (paired by stem), or two videos."""
    from pydantic import ValidationError

    from fusepipe.config.schema import Rig
    from fusepipe.core.errors import SourceError, UsageError
    from fusepipe.core.image_files import SUFFIXES
    from fusepipe.pipeline.sinks.base import Sink
    from fusepipe.pipeline.sinks.files.images import ImageFileSink
    from fusepipe.rig.pipeline import Pipeline
    from fusepipe.rig.run_rigs import run_rigs

    for path in (infrared, visible):
        if not path.exists():
            raise SourceError(f"{path}: there is no such file or folder")
    if infrared.is_dir() != visible.is_dir():
        one, other = (infrared, visible) if infrared.is_dir() else (visible, infrared)
        raise UsageError(f"{one} is a folder and {other} is not; give two images, two folders or two videos")
    image = [not path.is_dir() and path.suffix.lower() in SUFFIXES for path in (infrared, visible)]
    if image[0] != image[1]:
        one, other = (infrared, visible) if image[0] else (visible, infrared)
        raise UsageError(f"{one} is an image and {other} a video; give two images, two folders or two videos")
    stills = image[0]
    sinks: list[Sink] | None = None
    config: list[dict[str, Any]] = []
    if output.suffix.lower() in VIDEO_SUFFIXES:
        config = [{"file": str(output).replace("%", "%%")}]  # a name, not a pattern of the time
    elif stills and not output.is_dir() and output.suffix:
        sinks = [ImageFileSink(output, overwrite=overwrite)]
    else:
        if output.suffix.lower() in SUFFIXES and not output.is_dir():
            raise UsageError(f"{output}: is one image, but the inputs are many; name a folder")
        config = [{"images": str(output), "format": image_format or "png"}]
    if sinks is not None and image_format is not None:
        raise UsageError("--format is for a folder; the name of the output image says its format")
    body: dict[str, Any] = {
        "name": "fuse",
        "infrared": {"url": str(infrared)} | ({"range": list(count_range)} if count_range else {}),
        "visible": {"url": str(visible)},
        "fusion": {"model": model, "backend": backend, "precision": precision}
        | ({"engine": str(engine)} if engine else {}),
        "output": {"colour": "grey" if grey else "visible"},
        "sinks": config,
    }
    if calibration is not None:
        body["registration"] = {"calibration": str(calibration)}
    try:
        rig = Rig.model_validate(body)
    except ValidationError as error:
        detail = error.errors()[0]
        option = str(detail["loc"][-1]) if detail["loc"] else "options"
        raise UsageError(f"{option}: {detail['input']!r} {detail['msg'].removeprefix('Value error, ')}") from error
    pipeline = Pipeline(rig, overwrite=overwrite, sinks=sinks)
    finish(run_rigs([pipeline], quiet=as_json), as_json=as_json)
