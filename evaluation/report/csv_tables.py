"""The rows of CSV reports: one line for each image, and one for each method."""

from __future__ import annotations

from collections.abc import Iterator

from fusepipe.evaluation.metrics.registry import SEQUENCE_METRICS
from fusepipe.evaluation.report.detection_tables import values
from fusepipe.evaluation.report.results import Comparison


def method_rows(comparison: Comparison) -> Iterator[list[str]]:
    """A heading, then one line for each method of each set: mean rank, ranks, metrics of sequences, detections."""
    seen = {
        (result.name, name): values(score) for result in comparison.sets for name, score in result.detection.items()
    }
    detected = list(dict.fromkeys(heading for cells in seen.values() for heading in cells))
    temporal = list(SEQUENCE_METRICS) if any(m.temporal for r in comparison.sets for m in r.methods) else []
    yield ["set", "method", "mean_rank", *(f"rank_{name}" for name in comparison.ranked_by), *temporal, *detected]
    for result in comparison.sets:
        ranked = {entry.method: entry for entry in comparison.ranking(result)}
        for method in result.methods:
            entry = ranked.get(method.name)
            numbers: list[float | None] = [None if entry is None else entry.mean]
            numbers += [None if entry is None else entry.ranks.get(name) for name in comparison.ranked_by]
            numbers += [method.temporal.get(name) for name in temporal]
            texts = ["" if value is None else repr(float(value)) for value in numbers]
            cells = seen.get((result.name, method.name), {})
            yield [result.name, method.name, *texts, *(cells.get(heading, "") for heading in detected)]


def csv_rows(comparison: Comparison) -> Iterator[list[str]]:
    """A heading, then one line for each image of each method, with full precision."""
    yield ["set", "method", "image", *comparison.metrics, "ms"]
    for result in comparison.sets:
        for method in result.methods:
            times: list[float | None] = [*method.ms_per_pair] or [None] * len(method.rows)
            for image, row, ms in zip(result.images, method.rows, times, strict=True):
                values = (row.get(name) for name in comparison.metrics)
                numbers = ["" if value is None else repr(float(value)) for value in (*values, ms)]
                yield [result.name, method.name, image, *numbers]
