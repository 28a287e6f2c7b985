"""The clips of a batch as tables: CSV for every program, Parquet for large archives."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from fusepipe.core.files import utf8

# of the report, with the types of Parquet; the metrics follow, all numbers
COLUMNS = {
    "line": "int64", "output": "string", "status": "string", "infrared": "string", "visible": "string",
    "attempts": "int64", "seconds": "double", "pairs": "int64", "pairs_per_s": "double", "states": "string",
    "warnings": "string", "segments": "int64", "segments_kept": "int64", "error": "string",
}  # fmt: skip


def flat_rows(clips: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a report with one column a metric."""
    return [
        {**{name: clip[name] for name in COLUMNS}, **{name: clip["metrics"].get(name) for name in metrics}}
        for clip in clips
    ]


def csv_table(clips: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> bytes:
    """A heading and one line a clip, UTF-8."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *metrics], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat_rows(clips, metrics))
    return utf8(text.getvalue())


def parquet_table(clips: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> bytes | None:
    """The same with types; ``None`` where pyarrow is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return None
    types = [(name, getattr(pyarrow, "float64" if kind == "double" else kind)()) for name, kind in COLUMNS.items()]
    schema = pyarrow.schema([*types, *((name, pyarrow.float64()) for name in metrics)])
    rows = [
        {name: utf8(value).decode() if isinstance(value, str) else value for name, value in row.items()}
        for row in flat_rows(clips, metrics)
    ]
    written = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), written)
    return bytes(written.getvalue())
