"""``fusepipe calibrate board``: lenses and pose from views of a board."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fusepipe.commands.console.options import (
    Length,
    check_output_file,
    examples,
    json_option,
    overwrite_option,
    reframing_options,
)

if TYPE_CHECKING:
    from fusepipe.calibration.board.target import Board
    from fusepipe.rig.from_options import CameraKeys
    from fusepipe.workflows.calibrate_board import BoardResult, Views

LENS_HELP = "Model of its lens; fisheye is for very wide ones."


@click.command(
    "board",
    short_help="Calibrate from views of a board.",
    epilog=examples(
        "fusepipe calibrate board ir vis --board checkerboard:6x5:0.1m -o roof.calibration.yaml",
    ),
)
@click.argument("infrared", type=str)
@click.argument("visible", type=str)
@click.option(
    "--board",
    "board_text",
    required=True,
    metavar="KIND:SIZE:SPACING",
    help="checkerboard:6x5:0.1m, circles:4x11:40mm, symmetric-circles:9x6:30mm, charuco:8x6:4cm:3cm or "
    "aprilgrid:6x6:11.44cm:8.8cm.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The calibration file.")
@click.option(
    "--plane-distance",
    type=Length(),
    help="Distance at which the images are aligned.",
    show_default="mean distance of the boards",
)
@click.option("--infrared-lens", type=click.Choice(["pinhole", "fisheye"]), default="pinhole", help=LENS_HELP)
@click.option("--visible-lens", type=click.Choice(["pinhole", "fisheye"]), default="pinhole", help=LENS_HELP)
@click.option("--more-infrared", type=click.Path(path_type=Path), multiple=True, help="Views without a partner.")
@click.option("--more-visible", type=click.Path(path_type=Path), multiple=True, help="Views without a partner.")
@click.option(
    "--views",
    type=click.IntRange(4, 200),
    default=25,
    help="Views to accept from clips and cameras.",
)
@click.option("--note", help="Kept in the file.")
@reframing_options
@overwrite_option
@json_option
def command(
    infrared: str,
    visible: str,
    board_text: str,
    output: Path,
    plane_distance: float | None,
    infrared_lens: Any,
    visible_lens: Any,
    more_infrared: tuple[Path, ...],
    more_visible: tuple[Path, ...],
    views: int,
    note: str | None,
    keys: dict[str, dict[str, Any]],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Calibrate from views of a board: INFRARED and VISIBLE are folders of images (paired by stem), clips or cameras.

    From clips and cameras, views are accepted automatically while the board is held still in a new position;
    Ctrl-C ends the capture and calibrates from the accepted views.
    """
    from fusepipe.calibration.board.target import parse_board
    from fusepipe.calibration.file.storage import save_calibration
    from fusepipe.core.errors import FusepipeError, UsageError
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.workflows.calibrate_board import read_folder, solve

    board = parse_board(board_text)
    check_output_file(output, overwrite)
    folders = Path(infrared).is_dir() and Path(visible).is_dir()
    same_part = keys["infrared"].get("crop") == keys["visible"].get("crop")
    if folders and same_part and Path(infrared).samefile(visible):
        raise UsageError(f"{infrared} is given for both cameras: give one folder of infrared and one of visible images")
    if not folders and (more_infrared or more_visible):
        raise UsageError(
            "--more-infrared and --more-visible add to folders of images: INFRARED and VISIBLE must be folders"
        )
    if folders:
        found = []
        for camera, folder, more in (("infrared", infrared, more_infrared), ("visible", visible, more_visible)):
            with ProgressBar(f"{camera} boards", enabled=not as_json) as progress:
                found.append(read_folder([Path(folder), *more], board, camera, progress.step, keys[camera]))
    else:
        found = list(_watched(infrared, visible, keys, board, views, quiet=as_json))
    with ProgressBar("solving lenses and pose", enabled=not as_json):
        result = solve(found[0], found[1], board, (infrared_lens, visible_lens), plane_distance, note)
    document = {"ok": result.calibration is not None, "output": str(output), **result.as_json()}
    if result.calibration is not None:
        save_calibration(result.calibration, output, overwrite)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        if result.calibration is None:
            raise click.exceptions.Exit(1)
        return
    for text in _board_lines(result):
        click.echo(text)
    if result.calibration is None:
        assert result.stereo is not None
        raise FusepipeError(f"nothing was written: {result.stereo.loose}")
    click.echo(f"wrote {output}: valid for any distance, default {result.calibration.plane_distance_m:g} m")


def _watched(
    infrared: str, visible: str, keys: CameraKeys, board: Board, views: int, *, quiet: bool
) -> tuple[Views, Views]:
    from fusepipe.calibration.board.capture import Collector, coverage_lines
    from fusepipe.workflows.calibrate_board import watch

    live = sys.stderr.isatty() and not quiet
    drawn = 0

    def show(collector: Collector, decision: str) -> None:
        nonlocal drawn
        if not live:
            return
        maps = [coverage_lines(counts) for counts in collector.coverage()]
        lines = [f"{len(collector.pairs)} of {views} views; {decision}", "infrared" + " " * 12 + "visible"]
        lines += [f"{left}    {right}" for left, right in zip(*maps, strict=True)]
        click.echo(f"\x1b[{drawn}A\x1b[J" * bool(drawn) + "\n".join(lines), err=True)
        drawn = len(lines)

    return watch(infrared, visible, board, views, show, keys)


def _board_lines(result: BoardResult) -> list[str]:
    lines = []
    for name, camera in (("infrared", result.infrared), ("visible", result.visible)):
        if camera is None:
            continue
        lens = camera.lens
        lines.append(
            f"{name}: {len(camera.errors_px)} views, reprojection error {camera.rms_px:.2f} px, worst view "
            f"{max(camera.errors_px.values()):.2f} px; focal length {lens.fx:.1f} ± {camera.deviations[0]:.1f} px "
            f"({lens.field_of_view_deg:.1f}° across), {camera.covered:.0%} of the image covered"
        )
        if camera.board_flaw_m:
            lines.append(
                f"  the board deviates from its nominal geometry: its points were estimated as well and are off by "
                f"{camera.board_flaw_m * 1000:.2g} mm"
            )
        for view, error in camera.rejected.items():
            lines.append(f"  rejected {view}: {error:.2f} px, does not fit the other views")
        missing = result.without_board.get(name, [])
        if missing:
            lines.append(f"  no board found in {len(missing)}: {', '.join(missing[:8])}{' ...' * (len(missing) > 8)}")
        lines += [f"  warning: {warning}" for warning in camera.warnings()]
    if result.stereo is not None:
        stereo = result.stereo
        lines.append(
            f"both: {len(stereo.errors_px)} pairs, {stereo.rms_px:.2f} px; cameras "
            f"{stereo.pose.baseline_m * 1000:.1f} mm apart, rotated by {stereo.pose.angle_deg:.2f}° relative to each "
            "other"
        )
        lines += [f"  rejected {name}: {error:.2f} px" for name, error in stereo.rejected.items()]
        lines += [f"  warning: {warning}" for warning in stereo.warnings()]
    return lines
