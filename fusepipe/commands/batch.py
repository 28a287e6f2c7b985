"""``fusepipe batch``: the clips of a manifest, several at a time."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusepipe.commands.console.options import Duration, Names, examples, json_option, overwrite_option, strict_option
from fusepipe.core.errors import message_lines, printable
from fusepipe.core.text import counted

if TYPE_CHECKING:
    from fusepipe.workflows.batch.batch_report import BatchReport
    from fusepipe.workflows.batch.dispatch import BatchOutcome
    from fusepipe.workflows.batch.segment_plan import SegmentChoice

SHOWN_FAILURES = 20
# Options of fusepipe fuse, and what they are for the clips of a batch
KEYS_OF_OPTIONS = {
    "--model": "fusion.model",
    "--backend": "fusion.backend",
    "--precision": "fusion.precision",
    "--engine": "fusion.engine",
    "--device": "fusion.device",
    "--calibration": "registration.calibration",
    "--range": "infrared.range",
    "--agc": "infrared.agc",
    "--polarity": "infrared.polarity",
    "--telemetry": "infrared.telemetry",
    "--denoise": "infrared.denoise",
    "--visible-range": "visible.range",
    "--byte-order": "infrared.byte_order",
    "--visible-byte-order": "visible.byte_order",
    "--format": "sink.format",
    "--pair-by": "sync.pair_by",
    "--offset": "sync.offset",
    "--tolerance": "sync.tolerance",
    "--on-missing": "sync.on_missing",
    **{f"--{band}-{key}": f"{band}.{key}" for band in ("infrared", "visible") for key in ("crop", "rotate", "flip")},
    "--decoder": "infrared.decoder",
    "--colour": "output.colour",
    "--grey": "output.colour",
    "--set": "the key, such as infrared.repair.stripes,",
}


class BatchCommand(click.Command):
    """Says where the options of ``fusepipe fuse`` go."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            key = KEYS_OF_OPTIONS.get(error.option_name)
            if key is None:
                raise
            raise click.UsageError(
                f"{error.option_name} is not an option of batch: set {key} in a column of the manifest, for each clip, "
                "or in the rig file of --rig, for all",
                ctx,
            ) from error


@click.command(
    "batch",
    cls=BatchCommand,
    epilog=examples(
        "fusepipe batch clips.csv --out fused/",
        "fusepipe batch 'ir/*.mkv' --visible 'vis/{stem}.mkv' --out fused/",
        "fusepipe batch archive.jsonl --out fused/ --rig roof.yaml --workers 4",
        "fusepipe batch long.csv --out fused/ --segments auto",
    ),
)
@click.argument("manifest")
@click.option(
    "-o", "--out", "written_out", required=True, type=click.Path(), help="Folder of the outputs and the report."
)
@click.option("--visible", metavar="TEMPLATE", help="The visible input of each file that a pattern matches.")
@click.option("--rig", "rig_file", type=click.Path(path_type=Path), help="A rig file, whose settings all clips have.")
@click.option("--name", "rig_name", metavar="RIG", help="The rig of --rig, where the file has several.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Worker processes.", show_default="one a core")
@click.option("--ray", metavar="ADDRESS", help="A Ray cluster: HOST:PORT, auto, or local for a new one.")
@click.option("--segments", metavar="N|auto", help="Split long clips into N segments, fused in parallel and joined.")
@click.option("--segment-length", type=Duration(), help="Split clips that are longer into segments of this length.")
@click.option("--retries", type=click.IntRange(0, 100), default=2, help="Further attempts after a failure.")
@click.option("--timeout", type=Duration(), default="24h", help="Time limit of one attempt at a clip.")
@click.option(
    "--metrics", type=Names(), metavar="A,B", help="Score a few pairs of each clip: names, paper, common or all."
)
@strict_option
@overwrite_option
@json_option
def command(
    manifest: str,
    written_out: str,
    visible: str | None,
    rig_file: Path | None,
    rig_name: str | None,
    workers: int | None,
    ray: str | None,
    segments: str | None,
    segment_length: float | None,
    retries: int,
    timeout: float,
    metrics: tuple[str, ...] | None,
    strict: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Fuse the clips of MANIFEST: a CSV, JSON Lines or Parquet file or URL, or a pattern such as 'ir/*.mkv'.

    Its columns are infrared, visible, output, rig, rig_name, and keys of a rig such as fusion.model. Clips that are
    finished already are verified and skipped, so that the same command continues an interrupted batch.
    """
    from fusepipe.core.errors import UsageError
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.workflows.batch.batch_report import batch_report, write_batch_report
    from fusepipe.workflows.batch.clip_metrics import chosen_metrics
    from fusepipe.workflows.batch.dispatch import BatchOptions, run_batch
    from fusepipe.workflows.batch.entries import RigChoice, local_manifest, output_folder, read_entries
    from fusepipe.workflows.batch.rows import read_rows

    if rig_name is not None and rig_file is None:
        raise UsageError(f"--name {rig_name}: is for a rig file; add --rig")
    manifest, out = local_manifest(manifest), output_folder(written_out)
    choice = _segment_choice(segments, segment_length)
    shared = None if rig_file is None else RigChoice(rig_file, rig_name)
    entries = read_entries(read_rows(manifest, visible), manifest, out, shared=shared)
    options = BatchOptions(
        out,
        workers,
        retries,
        timeout,
        overwrite,
        strict,
        ray,
        () if metrics is None else chosen_metrics(metrics),
        choice,
    )
    # standard output has the result alone: Ray prints there what happens to its workers
    tasks = "clips" if choice is None else "clips and segments"
    with ProgressBar(tasks, enabled=not as_json) as bar, redirect_stdout(sys.stderr):
        outcome = run_batch(entries, options, bar.step)
    report = batch_report(entries, outcome)
    _show(outcome, report, as_json=as_json)
    if outcome.error is None or outcome.error.exit_code != 5:  # else there is no room for a report either
        for path in write_batch_report(report, out):
            if not as_json and path.suffix == ".html":
                click.echo(f"report: {path}")
    raise click.exceptions.Exit(outcome.exit_code)


def _segment_choice(segments: str | None, length_s: float | None) -> SegmentChoice | None:
    """What ``--segments`` and ``--segment-length`` mean; raises :class:`UsageError`."""
    from fusepipe.core.errors import UsageError
    from fusepipe.core.units import S
    from fusepipe.workflows.batch.segment_plan import MAX_SEGMENTS, SegmentChoice

    if length_s is not None:
        if segments is not None:
            raise UsageError("--segments and --segment-length both say how clips are split; remove one")
        if length_s < 1:
            raise UsageError(f"--segment-length {length_s:g}s: should be at least 1s")
        return SegmentChoice(length_ns=round(length_s * S))
    if segments is None:
        return None
    if segments == "auto":
        return SegmentChoice()
    if not segments.isdecimal() or not 2 <= int(segments) <= MAX_SEGMENTS:
        raise UsageError(f"--segments {segments}: should be auto or a number from 2 to {MAX_SEGMENTS}")
    return SegmentChoice(int(segments))


def _show(outcome: BatchOutcome, report: BatchReport, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        parts = [f"{report.summary[key]} {key.replace('_', ' ')}" for key in ("finished", "skipped", "failed")]
        click.echo(
            f"{counted(report.summary['total'], 'clip')}: {', '.join(parts)}; {report.summary['pairs']} pairs in "
            f"{report.summary['seconds']:.1f} s, {report.summary['pairs_per_s']:.1f} pairs/s"
        )
    for result in outcome.failed[:SHOWN_FAILURES]:
        click.echo(f"fusepipe: error: {printable(result.output)}: {printable(result.error)}", err=True)
    if len(outcome.failed) > SHOWN_FAILURES:
        click.echo(
            f"fusepipe: error: {len(outcome.failed) - SHOWN_FAILURES} more clips failed: see batch.csv", err=True
        )
    for text in () if outcome.error is None else message_lines(outcome.error):
        click.echo(f"fusepipe: error: {text}", err=True)
    if outcome.interrupted:
        click.echo("fusepipe: interrupted; finished clips are kept: the same command continues", err=True)
