"""The report of a batch: ``batch.json``, ``batch.csv`` and ``batch.html`` in the output folder."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusepipe.core.errors import SinkError
from fusepipe.core.files import write_text
from fusepipe.core.progress_bar import clock_time
from fusepipe.core.provenance import versions
from fusepipe.core.redact import hide_in, redact_url
from fusepipe.evaluation.report import html
from fusepipe.workflows.batch.clip_job import ClipResult
from fusepipe.workflows.batch.dispatch import BatchOutcome
from fusepipe.workflows.batch.entries import REPORT_STEM, BatchEntry

COLUMNS = ("line", "output", "status", "infrared", "visible", "attempts", "seconds", "pairs", "pairs_per_s", "states")
MAX_SHOWN = 2000  # clips on the page; the CSV file has all
STATES = {"finished": "good", "skipped": "good", "failed": "bad", "not started": "fair"}


@dataclass(frozen=True, slots=True)
class BatchReport:
    """``summary``: figures of the whole batch. ``clips``: one row a clip, with ``COLUMNS`` and its error; redacted."""

    summary: dict[str, Any]
    clips: Sequence[dict[str, Any]]

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
    return BatchReport(hide_in(summary), hide_in(clips))


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
        "error": result.error,
    }


def write_batch_report(report: BatchReport, out: Path) -> list[Path]:
    """Writes the three files, each atomically; returns their names. Raises :class:`SinkError`."""
    texts = {
        ".json": json.dumps(report.as_json(), indent=1, allow_nan=False) + "\n",
        ".csv": _csv(report.clips),
        ".html": _page(report),
    }
    paths = []
    for suffix, text in texts.items():
        path = out / f"{REPORT_STEM}{suffix}"
        try:
            write_text(path, text)
        except OSError as error:
            raise SinkError(f"{path}: cannot be written: {error.strerror}") from error
        paths.append(path)
    return paths


def _csv(clips: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    names = [*COLUMNS, "warnings", "error"]
    writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(clips)
    return text.getvalue()


def _page(report: BatchReport) -> str:
    summary = report.summary
    failed = [clip for clip in report.clips if clip["status"] == "failed"]
    return html.render(
        "batch.html",
        "fusepipe.workflows.batch",
        title="Batch",
        facts=[
            f"{summary['total']} clips",
            f"{clock_time(summary['seconds'])} h:min:s",
            f"{summary['workers']} workers",
        ],
        verdict=_verdict(summary),
        error=summary["error"] or "",
        figures=_figures(summary),
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
