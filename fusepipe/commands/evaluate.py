"""``fusepipe evaluate``: the metrics of existing fused images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fusepipe.commands.console.options import examples
from fusepipe.commands.console.scoring import Scoring, infrared_options, scoring_options

_FOLDER = click.Path(path_type=Path)


@click.command(
    "evaluate",
    epilog=examples(
        "fusepipe evaluate --ir ir --vis vis --fused fused --report scores.html",
    ),
)
@click.option("--ir", required=True, type=_FOLDER, help="Folder of the infrared images.")
@click.option("--vis", required=True, type=_FOLDER, help="Folder of the visible images.")
@click.option("--fused", required=True, type=_FOLDER, help="Folder of the fused images.")
@infrared_options
@scoring_options
def command(
    ir: Path,
    vis: Path,
    fused: Path,
    infrared_keys: dict[str, Any],
    scoring: Scoring,
) -> None:
    """Measure fused images against their sources.

    Images are matched by stem over the three folders; those without all partners are reported and omitted.
    Colour images count by their luma (BT.601), alpha is ignored. Infrared images of more than 8 bits are mapped as a
    run does; other 16-bit images are refused. No single metric ranks methods: see `fusepipe compare`.
    """
    from fusepipe.commands.console.terminal import table_width
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.core.provenance import command_line
    from fusepipe.evaluation.report.json_document import comparison_json
    from fusepipe.evaluation.report.report_files import check_reports, wants_images, write_reports
    from fusepipe.evaluation.report.text_tables import evaluation_table, text
    from fusepipe.workflows.evaluate import EXAMPLES, evaluate

    check_reports(scoring.report, overwrite=scoring.overwrite)
    with ProgressBar("images", enabled=not scoring.as_json) as progress:
        comparison = evaluate(
            ir,
            vis,
            fused,
            variant=scoring.variant,
            metrics=scoring.metrics,
            jobs=scoring.processes,
            examples=EXAMPLES if wants_images(scoring.report) else 0,
            infrared_keys=infrared_keys,
            step=progress.step,
        )
    comparison.command = command_line()
    write_reports(comparison, scoring.report)
    if scoring.as_json:
        document = {"ok": True, "exit_code": 0, "errors": []} | comparison_json(comparison)
        click.echo(json.dumps(document, indent=2, allow_nan=False))
        return
    (result,) = comparison.sets
    click.echo(text(evaluation_table(result, comparison), table_width()))
    for note in (*result.notes, *comparison.notes):
        click.echo(f"note: {note}")
    for path in scoring.report:
        click.echo(f"report: {path}")
