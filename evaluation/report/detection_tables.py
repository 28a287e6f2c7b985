"""Detections as tables of a terminal, of the HTML page and of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from fusepipe.evaluation.detection.score import FOUND_SCORE, MATCH_IOU, SURE_SCORE, VIEWS, DetectionScore
from fusepipe.evaluation.report.score_table import Cell, Group, Row, ScoreTable

Rows = Mapping[str, DetectionScore]

LEGEND = (
    f"detection: AP50 of labelled pairs; of pairs without labels, persons of the infrared, the visible or either image "
    f"(score {SURE_SCORE:g} or more) found again (score {FOUND_SCORE:g}, IoU {MATCH_IOU:g})"
)


def detection_table(title: str, rows: Rows) -> Table | None:
    """One line for each source and method; ``None`` where there is nothing to detect."""
    headings = _headings(rows)
    if not headings:
        return None
    table = Table(title=f"{title}: detection", title_justify="left")
    table.add_column("image", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, score in rows.items():
        table.add_row(name, *_cells(score, headings))
    return table


def detection_page_table(title: str, rows: Rows) -> ScoreTable | None:
    """The table of the HTML page; ``None`` where there is nothing to detect."""
    headings = _headings(rows)
    if not headings:
        return None
    lines = [Row(name, [Cell(text) for text in _cells(score, headings)]) for name, score in rows.items()]
    return ScoreTable(f"{title}, detection", headings, [Group("", lines)])


def detection_json(rows: Rows) -> dict[str, Any]:
    """AP50 by class and (found, to find) by view, of each row."""
    return {
        name: {
            "ap50": dict(score.ap50),
            "recall": {view: {"found": found, "of": total} for view, (found, total) in score.recall.items()},
        }
        for name, score in rows.items()
    }


def values(score: DetectionScore) -> dict[str, str]:
    """The cells of one row by heading, at full precision."""
    counts = {_of(view): f"{found}/{total}" for view, (found, total) in score.recall.items()}
    return {f"AP50 {name}": repr(value) for name, value in score.ap50.items()} | counts


def _headings(rows: Rows) -> list[str]:
    """All classes and views that some row has."""
    classes = sorted({name for score in rows.values() for name in score.ap50})
    views = [view for view in VIEWS if any(view in score.recall for score in rows.values())]
    return [*(f"AP50 {name}" for name in classes), *map(_of, views)]


def _of(view: str) -> str:
    return f"persons of {view}"


def _cells(score: DetectionScore, headings: list[str]) -> list[str]:
    shown = {f"AP50 {name}": f"{value:.3f}" for name, value in score.ap50.items()}
    shown |= {heading: text for heading, text in values(score).items() if heading not in shown}
    return [shown.get(heading, "–") for heading in headings]
