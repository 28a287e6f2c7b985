"""Writes results as JSON, CSV or HTML, by the ending of the file's name."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fusepipe.core.errors import OutputExistsError, SinkError, UsageError
from fusepipe.core.files import write_text
from fusepipe.evaluation.report import csv_tables
from fusepipe.evaluation.report.json_document import comparison_json
from fusepipe.evaluation.report.results import Comparison

SUFFIXES = (".json", ".csv", ".html")


def by_method(path: Path) -> Path:
    """The table of one line per method that a comparison writes beside its CSV report: ``NAME.methods.csv``."""
    return path.with_name(f"{path.stem}.methods.csv")


def check_reports(paths: Sequence[Path], *, overwrite: bool, methods: bool = False) -> None:
    """Checks at the start whether the reports can be written; with ``methods``, :func:`by_method` too.

    Raises :class:`UsageError` for another ending, :class:`OutputExistsError` and :class:`SinkError`.
    """
    beside = [by_method(path) for path in paths if methods and path.suffix.lower() == ".csv"]
    for path in (*paths, *beside):
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path}: a report ends in {', '.join(SUFFIXES)}; got {path.suffix!r}")
        if path.is_dir():
            raise SinkError(f"{path}: is a folder; name a file")
        if path.exists() and not overwrite:
            raise OutputExistsError(f"{path}: already exists; use --overwrite to replace it")
        if not os.access(_existing(path), os.W_OK):
            raise SinkError(f"{path}: its folder cannot be written")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("two reports have the same name")


def _existing(path: Path) -> Path:
    return next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))


def wants_images(paths: Sequence[Path]) -> bool:
    """Whether one of the reports is a page that shows images."""
    return any(path.suffix.lower() == ".html" for path in paths)


def write_reports(comparison: Comparison, paths: Sequence[Path]) -> None:
    """Each report is written atomically. Raises :class:`SinkError`."""
    for path in paths:
        suffix = path.suffix.lower()
        if suffix == ".json":
            text = json.dumps(comparison_json(comparison), indent=2, allow_nan=False) + "\n"
        elif suffix == ".csv":
            text = _as_csv(csv_tables.csv_rows(comparison))
            if comparison.ranked_by:
                _write(by_method(path), _as_csv(csv_tables.method_rows(comparison)))
        else:
            from fusepipe.evaluation.report.page import comparison_page

            text = comparison_page(comparison)
        _write(path, text)


def _as_csv(rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror}") from error
