"""The JSON document of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fusepipe.evaluation.metrics.registry import METRICS, SEQUENCE_METRICS
from fusepipe.evaluation.report.detection_tables import detection_json
from fusepipe.evaluation.report.rank_tables import overall, ranking_json
from fusepipe.evaluation.report.results import Comparison, SetResult
from fusepipe.evaluation.scores import Summary


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A document of plain values; ``null`` where a metric is not defined or not finite."""
    return {
        "title": comparison.title,
        "command": comparison.command,
        "versions": comparison.versions,
        "variant": comparison.variant,
        "metrics": {
            name: {
                "variant": METRICS[name].variant,
                "direction": METRICS[name].direction,
                "range": METRICS[name].span,
                "definition": METRICS[name].definition,
                "source": METRICS[name].source,
            }
            for name in comparison.metrics
        },
        "sequence_metrics": {
            name: {"direction": row.direction, "range": row.span, "definition": row.definition}
            for name, row in SEQUENCE_METRICS.items()
        },
        "ranked_by": comparison.ranked_by,
        "mean_rank_over_sets": overall(comparison),
        "detection_over_sets": detection_json(comparison.detection_over_sets),
        "sets": [_set_json(result, comparison) for result in comparison.sets],
        "unavailable": comparison.unavailable,
        "printed_source": comparison.printed_source,
        "notes": comparison.notes,
    }


def finite(value: float | None) -> float | None:
    """``None`` for values that JSON cannot represent."""
    return value if value is not None and math.isfinite(value) else None


def _summary_json(found: Summary | None) -> dict[str, float | int | None] | None:
    if found is None:
        return None
    return {
        "mean": finite(found.mean),
        "spread": finite(found.spread),
        "min": finite(found.min),
        "max": finite(found.max),
        "images": found.count,
    }


def _set_json(result: SetResult, comparison: Comparison) -> dict[str, Any]:
    methods: list[dict[str, Any]] = []
    for method in result.methods:
        summaries = method.summaries(comparison.metrics)
        entry: dict[str, Any] = {
            "method": method.name,
            "reference": method.reference,
            "engine": method.engine,
            "ms_per_pair": _summary_json(method.time),
            "metrics": {name: _summary_json(found) for name, found in summaries.items()},
            "temporal": {name: finite(value) for name, value in method.temporal.items()},
            "images": [
                {"image": image, **{name: finite(row.get(name)) for name in comparison.metrics}}
                for image, row in zip(result.images, method.rows, strict=True)
            ],
        }
        printed = _printed(comparison, result.name, method.name)
        methods.append(entry | ({"printed": printed} if printed else {}))
    marks = {name: _marks(result, name) for name in comparison.columns}
    return {
        "set": result.name,
        "sequence": result.sequence,
        "pairs": len(result.images),
        "methods": methods,
        "leaders": marks,
        "ranking": ranking_json(comparison.ranking(result)),
        "detection": detection_json(result.detection),
        "notes": result.notes,
    }


def _marks(result: SetResult, name: str) -> dict[str, Sequence[str]]:
    best, second = result.leaders(name)
    return {"best": sorted(best), "second": sorted(second)}


def _printed(comparison: Comparison, where: str, method: str) -> dict[str, float]:
    return {name: value for (s, m, name), value in comparison.printed.items() if (s, m) == (where, method)}
