"""The report of a batch: ``batch.json``, ``.csv``, ``.html`` and ``.parquet`` in the output folder."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusepipe.core.errors import SinkError
from fusepipe.core.files import utf8, write_bytes
from fusepipe.core.progress_bar import clock_time
from fusepipe.core.provenance import versions
from fusepipe.core.redact import hide_in, redact_url
from fusepipe.core.text import counted
from fusepipe.evaluation.report import html
from fusepipe.workflows.batch.clip_job import ClipResult
from fusepipe.workflows.batch.clip_metrics import SAMPLE
from fusepipe.workflows.batch.dispatch import BatchOutcome
from fusepipe.workflows.batch.entries import REPORT_STEM, BatchEntry
from fusepipe.workflows.batch.report_tables import csv_table, parquet_table

MAX_SHOWN = 2000  # clips on the page; the CSV file has all
STATES = {"finished": "good", "skipped": "good", "failed": "bad", "not started": "fair"}


@dataclass(frozen=True, slots=True)
class BatchReport:
    """``summary``: figures of the whole batch. ``clips``: one row a clip, see ``COLUMNS``, and its metrics; redacted.

    ``metrics``: the names of all that any clip has.
    """

    summary: dict[str, Any]
    clips: Sequence[dict[str, Any]]
    metrics: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """A document of plain values."""
        return {**self.summary, "clips": list(self.clips)}


def batch_report(entries: Sequence[BatchEntry], outcome: BatchOutcome) -> BatchReport:
    """The report of a batch of these ``entries``, in their order."""
    results = {result.output: result for result in outcome.results}
    clips = [_clip(entry, results.get(entry.output)) for entry in entries]
    made = [result for result in outcome.results if result.status == "finished"]
    pairs = sum(sum(result.figures.get("pairs", {}).values()) for result in made)
    counts = Counter(str(clip["status"]) for clip in clips)
    summary = {
        "ok": outcome.exit_code == 0,
        "exit_code": outcome.exit_code,
        "interrupted": outcome.interrupted,
        "error": None if outcome.error is None else str(outcome.error),
        "total": outcome.total,
        **{status.replace(" ", "_"): counts[status] for status in STATES},
        "seconds": round(outcome.seconds, 3),
        "workers": outcome.workers,
        "pairs": pairs,
        "pairs_per_s": round(pairs / outcome.seconds, 3) if outcome.seconds else 0.0,
        "clips_per_hour": round(3600 * len(made) / outcome.seconds, 1) if outcome.seconds else 0.0,
        "versions": versions(),
    }
    metrics = list(dict.fromkeys(name for clip in clips for name in clip["metrics"]))
    summary["metrics"] = {name: _mean([clip["metrics"].get(name) for clip in clips]) for name in metrics}
    return BatchReport(hide_in(summary), hide_in(clips), metrics)


def _mean(values: Sequence[float | None]) -> float | None:
    """Over the clips that have a value; ``None`` where none has, as for an infinite PSNR."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _clip(entry: BatchEntry, result: ClipResult | None) -> dict[str, Any]:
    infrared, visible = map(redact_url, entry.inputs)
    result = result or ClipResult(entry.row, entry.output, "not started", attempts=0)
    figures = result.figures
    states: Mapping[str, int] = figures.get("pairs", {})
    pairs, seconds = sum(states.values()), figures.get("seconds")
    return {
        "line": entry.row,
        "output": entry.output,
        "infrared": infrared,
        "visible": visible,
        "status": result.status,
        "attempts": result.attempts,
        "seconds": seconds,
        "pairs": pairs if states else None,
        "pairs_per_s": round(pairs / seconds, 2) if seconds else None,
        "states": " ".join(f"{state}={count}" for state, count in states.items()),
        "warnings": "; ".join(figures.get("warnings", ())),
        "segments": figures.get("segments"),
        "segments_kept": figures.get("segments_kept"),
        "error": result.error,
        "metrics": {
            name: value if math.isfinite(value) else None for name, value in figures.get("metrics", {}).items()
        },
    }


def write_batch_report(report: BatchReport, out: Path) -> list[Path]:
    """Writes the files, each atomically, and returns their names; Parquet where pyarrow is installed.

    Raises :class:`SinkError`.
    """
    contents = {
        ".json": utf8(json.dumps(report.as_json(), indent=1, allow_nan=False) + "\n"),
        ".csv": csv_table(report.clips, report.metrics),
        ".parquet": parquet_table(report.clips, report.metrics),
        ".html": utf8(_page(report)),
    }
    paths = []
    for suffix, content in contents.items():
        path = out / f"{REPORT_STEM}{suffix}"
        try:
            if content is None:
                path.unlink(missing_ok=True)  # of an earlier run, and out of date
                continue
            write_bytes(path, content)
        except OSError as error:
            raise SinkError(f"{path}: cannot be written: {error.strerror}") from error
        paths.append(path)
    return paths


def _page(report: BatchReport) -> str:
    summary = report.summary
    failed = [clip for clip in report.clips if clip["status"] == "failed"]
    return html.render(
        "batch.html",
        "fusepipe.workflows.batch",
        title="Batch",
        facts=[
            counted(summary["total"], "clip"),
            f"took {clock_time(summary['seconds'])}",
            counted(summary["workers"], "worker"),
        ],
        verdict=_verdict(summary),
        error=summary["error"] or "",
        figures=_figures(summary),
        metrics=report.metrics,
        sample=SAMPLE,
        means=summary["metrics"],
        failed=failed[:MAX_SHOWN],
        clips=report.clips[:MAX_SHOWN],
        not_shown=max(0, len(report.clips) - MAX_SHOWN),
        states=STATES,
        script="",
    )


def _verdict(summary: Mapping[str, Any]) -> tuple[str, str]:
    """(class of the style sheet, sentence)."""
    if summary["interrupted"] or summary["error"]:
        return "fair", f"Stopped with {summary['not_started']} clips left; the same command continues."
    if summary["failed"]:
        return "bad", f"{summary['failed']} of {summary['total']} clips failed."
    return "good", f"All {summary['total']} clips are finished."


def _figures(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("fused now", str(summary["finished"])),
        ("finished before, verified by hash", str(summary["skipped"])),
        ("failed", str(summary["failed"])),
        ("not started", str(summary["not_started"])),
        ("pairs fused", str(summary["pairs"])),
        ("pairs per second, all workers together", f"{summary['pairs_per_s']:g}"),
        ("clips per hour", f"{summary['clips_per_hour']:g}"),
    ]
