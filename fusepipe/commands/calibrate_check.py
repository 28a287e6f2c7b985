"""``fusepipe calibrate check``: how well a calibration fits pairs of the two cameras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fusepipe.commands.console.options import (
    Length,
    check_output_file,
    examples,
    json_option,
    overwrite_option,
    reframing_options,
)

PAGES = (".html", ".htm")


@click.command(
    "check",
    short_help="Measure how well a calibration fits pairs of images.",
    epilog=examples(
        "fusepipe calibrate check roof.calibration.yaml ir vis --report check.html",
    ),
)
@click.argument("calibration", type=click.Path(path_type=Path))
@click.argument("infrared", type=str)
@click.argument("visible", type=str)
@click.option("-o", "--report", type=click.Path(path_type=Path), help="A self-contained HTML page.")
@click.option("--points", type=click.Path(path_type=Path), help="Matched points with residuals, .csv or .json.")
@click.option("--plane-distance", type=Length(), help="Check at this distance instead of the calibration's own.")
@click.option("--plane", help="Check this plane of the file instead of its own.")
@click.option("--pairs", "most", type=click.IntRange(1, 200), default=12, help="Maximum number of pairs.")
@reframing_options
@overwrite_option
@json_option
def command(
    calibration: Path,
    infrared: str,
    visible: str,
    report: Path | None,
    points: Path | None,
    plane_distance: float | None,
    plane: str | None,
    most: int,
    keys: dict[str, dict[str, Any]],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure how well CALIBRATION fits pairs of INFRARED and VISIBLE; --report writes a page with images.

    The verdict is good, fair, bad or unknown.
    """
    from fusepipe.core.errors import UsageError
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.workflows.calibrate_check.check import check_calibration, write_report
    from fusepipe.workflows.calibrate_check.points import check_suffix, write_points

    if points is not None:
        check_suffix(points)
        check_output_file(points, overwrite)
    if report is not None:
        if report.suffix.lower() not in PAGES:
            raise UsageError(f"{report}: the report is a page and ends in {' or '.join(PAGES)}; got {report.suffix!r}")
        check_output_file(report, overwrite)
    with ProgressBar("measuring pairs", enabled=not as_json) as progress:
        result = check_calibration(calibration, infrared, visible, most, plane_distance, keys, progress.step, plane)
    if report is not None:
        write_report(result, report)
    written = None if points is None else write_points(result, points)
    if as_json:
        click.echo(
            json.dumps({"ok": True, "report": None if report is None else str(report), **result.as_json()}, indent=2)
        )
        return
    word, text = result.overall.verdict
    click.echo("\n".join([f"{word}: {text}", *result.plane_lines]))
    if points is not None:
        click.echo(f"wrote {points}: {written} matched points")
    if report is not None:
        click.echo(f"wrote {report}")
