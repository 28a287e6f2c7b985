"""``fusepipe calibrate``: from two cameras on a bracket to aligned frames."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fusepipe.commands.options import json_option, overwrite_option

if TYPE_CHECKING:
    from fusepipe.calibration.board.target import Board
    from fusepipe.workflows.calibrate_board import BoardResult, Views


@click.group("calibrate")
def command() -> None:
    """Calibrate a rig: from a board, or from the scene itself; check and convert calibration files."""


class Length(click.ParamType[float]):
    """``30m``, ``40mm``: metres as a float."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        from fusepipe.core.units import parse_length_m

        try:
            return parse_length_m(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


def check_output(path: Path, overwrite: bool) -> None:
    """Finds out before minutes of work whether the calibration can be written."""
    from fusepipe.core.errors import OutputExistsError, SinkError

    if path.is_dir():
        raise SinkError(f"{path}: is a folder; name a file, such as roof.calibration.yaml")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path}: is there already; give --overwrite to replace it")
    if not path.absolute().parent.is_dir():
        raise SinkError(f"{path}: its folder does not exist")


@command.command("board")
@click.argument("infrared", type=str)
@click.argument("visible", type=str)
@click.option("--board", "board_text", required=True, metavar="KIND:SIZE:SPACING", help="checkerboard:6x5:0.1m, ...")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The calibration file.")
@click.option("--plane-distance", type=Length(), help="The distance to align at [mean distance of the boards].")
@click.option("--infrared-lens", type=click.Choice(["pinhole", "fisheye"]), default="pinhole", show_default=True)
@click.option("--visible-lens", type=click.Choice(["pinhole", "fisheye"]), default="pinhole", show_default=True)
@click.option("--more-infrared", type=click.Path(path_type=Path), multiple=True, help="Views without a partner.")
@click.option("--more-visible", type=click.Path(path_type=Path), multiple=True, help="Views without a partner.")
@click.option("--views", type=click.IntRange(4, 200), default=25, show_default=True, help="Of clips and cameras.")
@click.option("--note", help="Kept in the file.")
@overwrite_option
@json_option
def board_command(
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
    overwrite: bool,
    as_json: bool,
) -> None:
    """Calibrate from views of a board: INFRARED and VISIBLE are folders of images (paired by stem), clips or cameras.

    From clips and cameras views are accepted by themselves, while the board is held still in new places;
    Ctrl-C goes on with those that there are.
    """
    from fusepipe.calibration.board.target import parse_board
    from fusepipe.calibration.file.calibration import save_calibration
    from fusepipe.commands.reporting import Progress
    from fusepipe.core.errors import FusepipeError, UsageError
    from fusepipe.workflows.calibrate_board import read_folder, solve

    board = parse_board(board_text)
    check_output(output, overwrite)
    folders = Path(infrared).is_dir() and Path(visible).is_dir()
    if folders and Path(infrared).samefile(visible):
        raise UsageError(f"{infrared} is given for both cameras: give one folder of infrared and one of visible images")
    if not folders and (more_infrared or more_visible):
        raise UsageError("--more-infrared and --more-visible add to folders of images; INFRARED and VISIBLE are none")
    if folders:
        found = []
        for camera, folder, more in (("infrared", infrared, more_infrared), ("visible", visible, more_visible)):
            with Progress(f"{camera} boards", enabled=not as_json) as progress:
                found.append(read_folder([Path(folder), *more], board, camera, progress.step))
    else:
        found = list(_watched(infrared, visible, board, views, quiet=as_json))
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
    click.echo(f"wrote {output}: holds for any distance, {result.calibration.plane_distance_m:g} m where none is said")


def _watched(infrared: str, visible: str, board: Board, views: int, *, quiet: bool) -> tuple[Views, Views]:
    from fusepipe.calibration.board.capture import Collector, coverage_lines
    from fusepipe.workflows.calibrate_board import watch

    live = sys.stderr.isatty() and not quiet
    drawn = 0

    def say(collector: Collector, said: str) -> None:
        nonlocal drawn
        if not live:
            return
        maps = [coverage_lines(counts) for counts in collector.coverage()]
        lines = [f"{len(collector.pairs)} of {views} views; {said}", "infrared" + " " * 12 + "visible"]
        lines += [f"{left}    {right}" for left, right in zip(*maps, strict=True)]
        click.echo(f"\x1b[{drawn}A\x1b[J" * bool(drawn) + "\n".join(lines), err=True)
        drawn = len(lines)

    return watch(infrared, visible, board, views, say)


def _board_lines(result: BoardResult) -> list[str]:
    lines = []
    for name, camera in (("infrared", result.infrared), ("visible", result.visible)):
        if camera is None:
            continue
        lens = camera.lens
        lines.append(
            f"{name}: {len(camera.errors_px)} views, reprojection error {camera.rms_px:.2f} px, worst view "
            f"{max(camera.errors_px.values()):.2f} px; focal length {lens.fx:.1f} ± {camera.deviations[0]:.1f} px "
            f"({lens.field_of_view_deg:.1f}° across), {camera.covered:.0%} of the picture covered"
        )
        if camera.board_flaw_m:
            lines.append(
                f"  the board is not quite what it should be: its points were solved for too, and are off by "
                f"{camera.board_flaw_m * 1000:.2g} mm"
            )
        for view, error in camera.rejected.items():
            lines.append(f"  left out {view}: {error:.2f} px, it does not fit the others")
        missing = result.without_board.get(name, [])
        if missing:
            lines.append(f"  no board found in {len(missing)}: {', '.join(missing[:8])}{' ...' * (len(missing) > 8)}")
        lines += [f"  doubt: {doubt}" for doubt in camera.doubts()]
    if result.stereo is not None:
        stereo = result.stereo
        lines.append(
            f"both: {len(stereo.errors_px)} pairs, {stereo.rms_px:.2f} px; cameras "
            f"{stereo.pose.baseline_m * 1000:.1f} mm apart, turned by {stereo.pose.angle_deg:.2f}° against each other"
        )
        lines += [f"  left out {name}: {error:.2f} px" for name, error in stereo.rejected.items()]
    return lines


@command.command("scene")
@click.argument("infrared", type=str)
@click.argument("visible", type=str)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The calibration file.")
@click.option("--model", type=click.Choice(["auto", "similarity", "affine", "homography"]), default="auto")
@click.option("--fov-infrared", type=click.FloatRange(1, 170), help="Hint: degrees across.")
@click.option("--fov-visible", type=click.FloatRange(1, 170), help="Hint: degrees across.")
@click.option("--mount", nargs=2, type=Length(), metavar="RIGHT DOWN", help="Hint: where the infrared camera sits.")
@click.option("--plane-distance", type=Length(), help="How far away the scene is.")
@click.option("--pairs", "most", type=click.IntRange(1, 200), default=24, show_default=True, help="At most so many.")
@click.option("--note", help="Kept in the file.")
@overwrite_option
@json_option
def scene_command(
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
    overwrite: bool,
    as_json: bool,
) -> None:
    """Calibrate without a board, from pairs of the scene: two images, two folders (by stem) or two recordings.

    Exits with 1, and writes nothing, where the result could not be trusted.
    """
    from fusepipe.calibration.file.calibration import save_calibration
    from fusepipe.calibration.scene.local_matches import MODELS
    from fusepipe.core.errors import FusepipeError
    from fusepipe.workflows import calibrate_scene as scene
    from fusepipe.workflows.scene_pairs import read_pairs

    check_output(output, overwrite)
    hints = scene.Hints(fov_infrared, fov_visible, mount, plane_distance)
    pairs = read_pairs(infrared, visible, most)
    models = MODELS if model == "auto" else tuple(m for m in MODELS if MODELS.index(m) <= MODELS.index(model))
    result, calibration = scene.calibrate_scene(pairs, hints, models, note)
    if calibration is not None:
        save_calibration(calibration, output, overwrite)
    if as_json:
        document = scene.as_json(result, [pair.name for pair in pairs])
        click.echo(json.dumps({"ok": calibration is not None, "output": str(output), **document}, indent=2))
        if calibration is None:
            raise click.exceptions.Exit(1)
        return
    if calibration is None:
        raise FusepipeError(f"nothing was written: {result.refusal}")
    seen = result.agreement
    click.echo(
        f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'} ({scene.pair_names(pairs)}): {result.model}, "
        f"confidence {seen.confidence:.2f}; {seen.near:.0%} of {seen.blocks} parts of the picture agree; the infrared "
        f"camera sees {seen.overlap:.0%} of the visible picture"
    )
    if doubt := scene.doubt(result):
        click.echo(f"  doubt: {doubt}")
    inputs = shlex.join([str(output), infrared, visible])
    click.echo(f"wrote {output}; look at it with: fusepipe calibrate check {inputs}")


@command.command("check")
@click.argument("calibration", type=click.Path(path_type=Path))
@click.argument("infrared", type=str)
@click.argument("visible", type=str)
@click.option("-o", "--report", type=click.Path(path_type=Path), help="A self-contained HTML page.")
@click.option("--plane-distance", type=Length(), help="Check at this distance instead of the calibration's own.")
@click.option("--pairs", "most", type=click.IntRange(1, 200), default=12, show_default=True, help="At most so many.")
@overwrite_option
@json_option
def check_command(
    calibration: Path,
    infrared: str,
    visible: str,
    report: Path | None,
    plane_distance: float | None,
    most: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Say how well CALIBRATION fits pairs of INFRARED and VISIBLE; --report shows it in pictures.

    The verdict is good, fair, bad or unknown.
    """
    from fusepipe.workflows.calibrate_check import check as checking

    if report is not None:
        check_output(report, overwrite)
    result = checking.check(calibration, infrared, visible, most, plane_distance)
    if report is not None:
        checking.write_report(result, report)
    if as_json:
        click.echo(
            json.dumps({"ok": True, "report": None if report is None else str(report), **result.as_json()}, indent=2)
        )
        return
    word, text = result.overall.verdict
    click.echo(f"{word}: {text}")
    if report is not None:
        click.echo(f"wrote {report}")


@command.command("convert")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option("--to", "form", type=click.Choice(["fusepipe", "opencv", "kalibr"]), help="[fusepipe, from it: opencv]")
@click.option("--plane-distance", type=Length(), help="The distance to align at, which other formats do not know.")
@click.option("--infrared-camera", type=click.IntRange(0, 1), default=0, show_default=True, help="First or second.")
@overwrite_option
def convert_command(
    source: Path, output: Path, form: str | None, plane_distance: float | None, infrared_camera: int, overwrite: bool
) -> None:
    """Convert SOURCE from or to OpenCV's stereo files (stereoCalibrate) and kalibr's camera chains."""
    from fusepipe.calibration.file import exchange
    from fusepipe.calibration.file.calibration import save_calibration, save_text

    check_output(output, overwrite)
    kind = exchange.kind_of(source)
    wanted = form or ("opencv" if kind == "fusepipe" else "fusepipe")
    read = exchange.read(source, kind, plane_distance, infrared_camera)
    if wanted == "fusepipe":
        save_calibration(read, output, overwrite)
    else:
        text = exchange.opencv_text(read) if wanted == "opencv" else exchange.kalibr_text(read)
        save_text(text, output, overwrite)
    click.echo(f"wrote {output} ({kind} to {wanted})")
