"""``fusepipe calibrate scene``: registration from image pairs of the scene, without a board."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from fusepipe.commands.console.options import (
    Length,
    check_output_file,
    examples,
    json_option,
    overwrite_option,
    reframing_arguments,
    reframing_options,
)


@click.command(
    "scene",
    short_help="Calibrate from pairs of the scene, without a board.",
    epilog=examples(
        "fusepipe calibrate scene ir vis -o roof.calibration.yaml --fov-infrared 45 --fov-visible 60",
    ),
)
@click.argument("infrared", type=str)
@click.argument("visible", type=str)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The calibration file.")
@click.option("--model", type=click.Choice(["auto", "similarity", "affine", "homography"]), default="auto")
@click.option("--fov-infrared", type=click.FloatRange(1, 170), help="Hint: horizontal field of view in degrees.")
@click.option("--fov-visible", type=click.FloatRange(1, 170), help="Hint: horizontal field of view in degrees.")
@click.option("--mount", nargs=2, type=Length(), metavar="RIGHT DOWN", help="Hint: position of the infrared camera.")
@click.option("--plane-distance", type=Length(), help="Distance of the scene.")
@click.option("--pairs", "most", type=click.IntRange(1, 200), default=24, help="Maximum number of pairs.")
@click.option("--note", help="Kept in the file.")
@reframing_options
@overwrite_option
@json_option
def command(
    infrared: str,
    visible: str,
    output: Path,
    model: str,
    fov_infrared: float | None,
    fov_visible: float | None,
    mount: tuple[float, float] | None,
    plane_distance: float | None,
    most: int,
    note: str | None,
    keys: dict[str, dict[str, Any]],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Calibrate without a board, from pairs of the scene: two images, two folders (by stem) or two recordings.

    Exits with 1 and writes nothing where the result is not reliable.
    """
    from fusepipe.calibration.file.storage import save_calibration
    from fusepipe.calibration.scene.local_matches import MODELS
    from fusepipe.core.errors import FusepipeError
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.core.text import counted, shortlist
    from fusepipe.workflows.calibrate_scene import Hints, calibrate_scene, lens_note, reliability_warning, result_json
    from fusepipe.workflows.scene_pairs import read_pairs

    check_output_file(output, overwrite)
    hints = Hints(fov_infrared, fov_visible, mount, plane_distance)
    pairs = read_pairs(infrared, visible, most, keys)
    models = MODELS if model == "auto" else tuple(m for m in MODELS if MODELS.index(m) <= MODELS.index(model))
    with ProgressBar("registering", enabled=not as_json) as progress:
        result, calibration = calibrate_scene(pairs, hints, models, note, progress.step)
    if calibration is not None:
        save_calibration(calibration, output, overwrite)
    if as_json:
        document = result_json(result, [pair.name for pair in pairs])
        click.echo(json.dumps({"ok": calibration is not None, "output": str(output), **document}, indent=2))
        if calibration is None:
            raise click.exceptions.Exit(1)
        return
    if calibration is None:
        raise FusepipeError(f"nothing was written: {result.refusal}")
    seen = result.quality
    error = "not known" if seen.error_bound is None else seen.error_bound.text
    click.echo(
        f"{counted(len(pairs), 'pair')} ({shortlist([pair.name for pair in pairs])}): {result.model}; expected error: "
        f"{error}; {seen.agreement}; the infrared camera sees {seen.overlap:.0%} of the visible image"
    )
    if reason := reliability_warning(result):
        click.echo(f"  warning: {reason}")
    if note_text := lens_note(result):
        click.echo(f"  note: {note_text}")
    inputs = shlex.join([str(output), infrared, visible, *reframing_arguments(keys)])
    click.echo(f"wrote {output}; check it with: fusepipe calibrate check {inputs}")
