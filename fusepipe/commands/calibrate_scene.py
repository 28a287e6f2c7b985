"""``fusepipe calibrate scene``: registration from image pairs of the scene, without a board."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fusepipe.commands.console.options import (
    Length,
    check_output_file,
    check_rig_to_edit,
    examples,
    json_option,
    overwrite_option,
    reframing_arguments,
    reframing_options,
    rig_name_option,
    write_offset_option,
)

if TYPE_CHECKING:
    from fusepipe.calibration.scene.local_matches import Model
    from fusepipe.calibration.scene.registration import SceneResult
    from fusepipe.config.rig_offset import WrittenOffset
    from fusepipe.workflows.calibrate_scene import Hints
    from fusepipe.workflows.probe_report import RecordingTiming


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
@click.option(
    "--model",
    type=click.Choice(["auto", "similarity", "affine", "homography"]),
    default="auto",
    help="Kind of transform.",
)
@click.option("--fov-infrared", type=click.FloatRange(1, 170), help="Hint: horizontal field of view in degrees.")
@click.option("--fov-visible", type=click.FloatRange(1, 170), help="Hint: horizontal field of view in degrees.")
@click.option("--mount", nargs=2, type=Length(), metavar="RIGHT DOWN", help="Hint: position of the infrared camera.")
@click.option("--plane-distance", type=Length(), help="Distance of the scene.")
@click.option("--at", metavar="PLANE", help="Add one plane to the file: near, far, a distance, or x,y,width,height.")
@click.option("--name", help="Name of the plane of --at.", show_default="near, far, or its distance")
@click.option("--pairs", "most", type=click.IntRange(1, 200), default=24, help="Maximum number of pairs.")
@click.option("--note", help="Kept in the file.")
@write_offset_option
@rig_name_option
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
    at: str | None,
    name: str | None,
    most: int,
    note: str | None,
    rig_file: Path | None,
    rig_name: str | None,
    keys: dict[str, dict[str, Any]],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Calibrate without a board, from pairs of the scene: two images, two folders (by stem) or two recordings.

    Exits with 1 and writes nothing where the result is not reliable. With --at, the plane is added to an existing file,
    and --overwrite replaces one of the same name; a region is in pixels of the visible image.
    """
    from fusepipe.calibration.file.storage import save_calibration
    from fusepipe.calibration.scene.local_matches import MODELS
    from fusepipe.core.errors import FusepipeError
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.workflows.calibrate_scene import Hints, calibrate_scene, result_json, with_timing
    from fusepipe.workflows.scene_pairs import read_scene

    _check_options(output, (at, name), (rig_file, rig_name), overwrite)
    hints = Hints(fov_infrared, fov_visible, mount, plane_distance)
    models = MODELS if model == "auto" else tuple(m for m in MODELS if MODELS.index(m) <= MODELS.index(model))
    if at is not None:
        _add_plane((infrared, visible, most, keys), output, (at, name), (hints, models, note), overwrite, as_json)
        return
    scene = read_scene(infrared, visible, most, keys)
    names = [pair.name for pair in scene.pairs]
    with ProgressBar("registering", enabled=not as_json) as progress:
        result, calibration = calibrate_scene(scene.pairs, hints, models, note, progress.step)
    timing = scene.timing_with(result)
    written = None
    if calibration is not None:
        save_calibration(with_timing(calibration, timing), output, overwrite)
        written = _write_offset(rig_file, rig_name, timing)
    if as_json:
        document = result_json(result, names, timing) | ({} if written is None else {"written": str(written.path)})
        click.echo(json.dumps({"ok": calibration is not None, "output": str(output), **document}, indent=2))
        if calibration is None:
            raise click.exceptions.Exit(1)
        return
    if calibration is None:
        raise FusepipeError(f"nothing was written: {result.refusal}")
    _print_result(result, names, timing)
    if rig_file is not None:
        click.echo(f"{rig_file} is unchanged: no clear offset was found" if written is None else written.text)
    inputs = shlex.join([str(output), infrared, visible, *reframing_arguments(keys)])
    click.echo(f"wrote {output}; check it with: fusepipe calibrate check {inputs}")


def _check_options(
    output: Path, plane: tuple[str | None, str | None], rig: tuple[Path | None, str | None], overwrite: bool
) -> None:
    """Raises what stops the command before it has read anything. ``plane``: --at and --name."""
    at, name = plane
    if name is not None and at is None:
        raise click.UsageError("--name is that of a plane: give --at as well")
    check_rig_to_edit(*rig)
    if at is None:
        check_output_file(output, overwrite)
    elif rig[0] is not None:
        raise click.UsageError("--write-offset does not go with --at: a plane has no offset of its own")


def _write_offset(rig_file: Path | None, rig_name: str | None, timing: RecordingTiming | None) -> WrittenOffset | None:
    """Writes an offset that is clear; ``None`` without one, or without a rig."""
    from fusepipe.config.rig_offset import write_offset

    if rig_file is None or timing is None or timing.motion is None or not timing.sure:
        return None
    return write_offset(rig_file, rig_name, timing.motion.offset_ns)


def _print_result(result: SceneResult, names: list[str], timing: RecordingTiming | None) -> None:
    from fusepipe.core.text import counted, shortlist
    from fusepipe.workflows.calibrate_scene import lens_note, reliability_warning
    from fusepipe.workflows.probe_report import motion_lines

    seen = result.quality
    error = "not known" if seen.error_bound is None else seen.error_bound.text
    click.echo(
        f"{counted(len(names), 'pair')} ({shortlist(names)}): {result.model}; expected error: "
        f"{error}; {seen.agreement}; the infrared camera sees {seen.overlap:.0%} of the visible image"
    )
    if reason := reliability_warning(result):
        click.echo(f"  warning: {reason}")
    if note_text := lens_note(result):
        click.echo(f"  note: {note_text}")
    for line in [] if timing is None else motion_lines(timing.motion, timing.shutter):
        click.echo(line)


def _add_plane(
    inputs: tuple[str, str, int, dict[str, dict[str, Any]]],
    output: Path,
    plane: tuple[str, str | None],
    settings: tuple[Hints, tuple[Model, ...], str | None],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Adds one plane to the file, which is made if there is none. ``plane``: --at and --name."""
    from fusepipe.calibration.file.storage import load_calibration, save_calibration
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.workflows.scene_pairs import read_pairs
    from fusepipe.workflows.scene_planes import calibrate_plane, check_new, parse_place

    place = parse_place(*plane)
    known = load_calibration(output) if output.exists() else None
    if known is None:
        check_output_file(output, overwrite)
    elif not overwrite:
        check_new(known, place, output)
    pairs = read_pairs(*inputs)
    with ProgressBar("registering", enabled=not as_json) as progress:
        result = calibrate_plane(pairs, place, known, *settings, progress.step)
    save_calibration(result.calibration, output, overwrite=known is not None or overwrite)
    if as_json:
        click.echo(json.dumps({"ok": True, "output": str(output), **result.as_json()}, indent=2))
        return
    click.echo(f"plane {place.name}: {result.text}")
    click.echo(f"wrote {output}; choose the plane in the rig: registration: {{plane: {place.name}}}")
