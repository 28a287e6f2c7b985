"""``fusepipe compare``: fusion methods side by side, measured on the same pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fusepipe.commands.console.completion import MODEL_NAMES, complete_list, listed
from fusepipe.commands.console.options import Names, examples
from fusepipe.commands.console.scoring import Scoring, infrared_options, scoring_options
from fusepipe.core.errors import EngineError, UsageError

if TYPE_CHECKING:
    from fusepipe.evaluation.report.published import Preset
    from fusepipe.evaluation.report.results import Comparison


@click.command(
    "compare",
    epilog=examples(
        "fusepipe compare --data tno --models stream,pyramid,mean --report tno.html",
    ),
)
@click.option("--data", help="'tno' (see: fusepipe data tno), a folder with ir/ and vis/, or a folder of such folders.")
@click.option(
    "--models",
    type=Names(),
    metavar="A,B",
    shell_complete=complete_list(("all", *MODEL_NAMES)),
    help=f"Models: all, {listed(MODEL_NAMES)}.",
    show_default="stream,pyramid",
)
@click.option("--preset", metavar="NAME", help="A published table: paper-table1 or paper-table2, on --data tno.")
@click.option("--sets", type=Names(), metavar="A,B", help="Only these sets of the data.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pairs of each set.")
@click.option(
    "--sequence/--stills",
    default=None,
    help="The pairs are frames in order, or not.",
    show_default="folders of folders are",
)
@click.option(
    "--detector",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE.onnx",
    help="Also measure detections with this network, in YOLOX's format.",
)
@click.option(
    "--labels-map",
    multiple=True,
    metavar="[SET:]0=person,1=car",
    help="What the class numbers in labels/ mean, in the detector's names.",
)
@infrared_options
@scoring_options
@click.pass_context
def command(
    ctx: click.Context,
    data: str | None,
    models: tuple[str, ...] | None,
    preset: str | None,
    sets: tuple[str, ...] | None,
    limit: int | None,
    sequence: bool | None,
    detector: Path | None,
    labels_map: tuple[str, ...],
    infrared_keys: dict[str, Any],
    scoring: Scoring,
) -> None:
    """Run fusion methods side by side on the same pairs and measure them.

    The trivial rules mean, max and sum are always included: each wins some metric. A model that cannot run is reported
    with its reason while the others continue; the exit code is then 4. Times are measured one pair after the other,
    without reading and scoring. Infrared images of more than 8 bits are mapped as a run does.
    """
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.core.provenance import command_line
    from fusepipe.evaluation.report.report_files import check_reports, wants_images, write_reports
    from fusepipe.workflows.compare import QUICK, CompareOptions, compare, find_data, preset_options

    check_reports(scoring.report, overwrite=scoring.overwrite, methods=True)
    jobs, with_images, chosen = scoring.processes, wants_images(scoring.report), None
    if preset is not None:
        _require_absent({"--models": models, "--sets": sets, "--metrics": scoring.metrics, "--detector": detector})
        _require_absent({f"--{key}": value for key, value in infrared_keys.items()})
        chosen, options = preset_options(preset, data or "tno", limit=limit, jobs=jobs, with_images=with_images)
    else:
        if data is None:
            raise UsageError("name the data: --data tno, or --data FOLDER with ir/ and vis/")
        options = CompareOptions(
            find_data(data),
            models or QUICK,
            sets=sets,
            limit=limit,
            sequence=sequence,
            detector=detector,
            labels_map=labels_map,
            infrared_keys=infrared_keys,
            variant=scoring.variant,
            metrics=scoring.metrics,
            jobs=jobs,
            with_images=with_images,
        )
    with ProgressBar("methods", enabled=not scoring.as_json) as progress:
        comparison = compare(options, progress.step)
    if chosen is not None:
        _add_published(comparison, chosen)
    comparison.command = command_line()
    write_reports(comparison, scoring.report)
    print_tables(comparison, scoring.report, as_json=scoring.as_json)
    if comparison.failed:
        ctx.exit(EngineError.exit_code)


def _add_published(comparison: Comparison, preset: Preset) -> None:
    from fusepipe.evaluation.report.published import SOURCE

    comparison.printed, comparison.printed_source = preset.printed, SOURCE
    comparison.unavailable |= preset.missing
    comparison.notes += preset.notes


def _require_absent(options: Mapping[str, object]) -> None:
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} and --preset cannot be combined: the preset defines what is compared")


def print_tables(comparison: Comparison, reports: tuple[Path, ...], *, as_json: bool) -> None:
    """Prints the tables with their notes, or one JSON document."""
    from fusepipe.evaluation.report.json_document import comparison_json

    if as_json:
        failures = [
            {"type": "EngineError", "message": f"{name}: {comparison.unavailable[name]}", "exit_code": 4}
            for name in comparison.failed
        ]
        document = {"ok": not failures, "exit_code": 4 if failures else 0, "errors": failures}
        click.echo(json.dumps(document | comparison_json(comparison), indent=2, allow_nan=False))
    else:
        for line in _lines(comparison):
            click.echo(line)
        for path in reports:
            click.echo(f"report: {path}")
    for name, reason in comparison.unavailable.items():
        if name in comparison.failed:
            click.echo(f"fusepipe: error: {name}: {reason}", err=True)
        elif not as_json:
            click.echo(f"not run: {name}: {reason}")


def _lines(comparison: Comparison) -> Iterator[str]:
    """Tables, legend and notes."""
    from fusepipe.commands.console.terminal import table_width
    from fusepipe.evaluation.report.detection_tables import LEGEND as DETECTION_LEGEND
    from fusepipe.evaluation.report.detection_tables import detection_table
    from fusepipe.evaluation.report.rank_tables import overall_table, rank_tables, tie_notes
    from fusepipe.evaluation.report.text_tables import LEGEND, comparison_tables, text

    width = table_width()
    detections = [(result.name, result.detection) for result in comparison.sets]
    detections += [("all sets", comparison.detection_over_sets)]
    for result in comparison.sets:
        for table in (*comparison_tables(result, comparison, width), *rank_tables(result, comparison, width)):
            yield text(table, width)
        yield from (f"note: {note}" for note in (*result.notes, *tie_notes(result, comparison)))
    together = overall_table(comparison)
    if together is not None:
        yield text(together, width)
    seen = [found for title, rows in detections if (found := detection_table(title, rows)) is not None]
    yield from (text(table, width) for table in seen)
    yield LEGEND
    yield f"mean rank: over {', '.join(comparison.ranked_by)}; 1 is best, = tied"
    if seen:
        yield DETECTION_LEGEND
    if comparison.printed_source:
        yield f"as printed: {comparison.printed_source}"
    yield from (f"note: {note}" for note in comparison.notes)
