"""The results of a comparison: sets of images, methods, values. Plain data for tables and reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.baselines.trivial import TRIVIAL_RULES
from fusepipe.evaluation.metrics.registry import METRICS, SEQUENCE_METRICS
from fusepipe.evaluation.scores import Scores, Summary, leaders, summarise, summary

BOUND = {"CC": "CC_bound"}  # metric -> the row that limits it


@dataclass(slots=True)
class MethodResult:
    """One method on one set of images.

    ``rows`` has the values of each image in the order of the set. ``ms_per_pair`` is the measured wall
    time of fusing each pair (empty where the images were read). ``luminance`` is the mean grey level of
    each fused image, ``temporal`` the values of a sequence as a whole.
    """

    name: str
    engine: str = ""
    rows: list[Scores] = field(default_factory=list)
    ms_per_pair: list[float] = field(default_factory=list)
    luminance: list[float] = field(default_factory=list)
    temporal: dict[str, float] = field(default_factory=dict)

    @property
    def reference(self) -> bool:
        return self.name in TRIVIAL_RULES

    def summaries(self, names: Iterable[str]) -> dict[str, Summary | None]:
        return summarise(self.rows, names)

    @property
    def time(self) -> Summary | None:
        """Milliseconds a pair."""
        return summary(self.ms_per_pair)


@dataclass(slots=True, eq=False)
class Example:
    """An example pair of the report: HxW uint8 luma of the sources and of each method.

    ``attention`` has, of the methods that provide it, the share of infrared in each pixel: 255 is all.
    """

    image: str
    ir: Luma8
    vis: Luma8
    fused: dict[str, Luma8] = field(default_factory=dict)
    attention: dict[str, Luma8] = field(default_factory=dict)


@dataclass(slots=True)
class SetResult:
    """One folder of pairs or one sequence, with the results of each method.

    ``luminance`` has the mean grey levels of the sources, ``ir`` and ``vis``, image by image.
    """

    name: str
    images: list[str]
    sequence: bool = False
    methods: list[MethodResult] = field(default_factory=list)
    luminance: dict[str, list[float]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def ranked(self) -> list[MethodResult]:
        """The methods that are ranked: all but the trivial rules, unless there are only these."""
        return [method for method in self.methods if not method.reference] or self.methods

    def leaders(self, name: str) -> tuple[set[str], set[str]]:
        """(best, second best) methods by the mean of a metric."""
        return leaders({m.name: mean_of(m, name) for m in self.ranked()}, METRICS[name])

    def bound(self, name: str) -> float | None:
        """The mean of what limits a metric on these images, such as the largest CC that is possible."""
        if name not in BOUND or not self.methods:
            return None
        return mean_of(self.methods[0], BOUND[name])


@dataclass(slots=True)
class Comparison:
    """All results of one command.

    ``metrics`` are the columns. ``unavailable`` gives the reason of each method that did not run,
    ``failed`` those of them that count as a failure. ``printed`` are published values:
    (set, method, metric) -> value.
    """

    title: str
    metrics: list[str]
    variant: str
    sets: list[SetResult] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    printed: dict[tuple[str, str, str], float] = field(default_factory=dict)
    printed_source: str = ""
    notes: list[str] = field(default_factory=list)
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The metrics that are columns of their own: bounds are shown with the metric they limit."""
        return [name for name in self.metrics if METRICS[name].direction != "bound"]

    def as_json(self) -> dict[str, Any]:
        """A document of plain values; ``null`` where a metric is not defined or not finite."""
        return {
            "title": self.title,
            "command": self.command,
            "versions": self.versions,
            "variant": self.variant,
            "metrics": {
                name: {
                    "variant": METRICS[name].variant,
                    "direction": METRICS[name].direction,
                    "range": METRICS[name].span,
                    "definition": METRICS[name].definition,
                    "source": METRICS[name].source,
                }
                for name in self.metrics
            },
            "sequence_metrics": {
                name: {"direction": row.direction, "range": row.span, "definition": row.definition}
                for name, row in SEQUENCE_METRICS.items()
            },
            "sets": [_set_json(result, self) for result in self.sets],
            "unavailable": self.unavailable,
            "printed_source": self.printed_source,
            "notes": self.notes,
        }


def mean_of(method: MethodResult, name: str) -> float | None:
    """The mean of one metric over a method's images."""
    found = summary(row.get(name) for row in method.rows)
    return None if found is None else found.mean


def missing_values(comparison: Comparison) -> list[str]:
    """One line for each metric that some images are too small for."""
    notes = []
    for name in comparison.metrics:
        rows = [row for result in comparison.sets for method in result.methods[:1] for row in method.rows]
        small = sum(row.get(name) is None for row in rows)
        if small:
            notes.append(f"{name}: not defined for {small} of {len(rows)} images, which are too small for it")
    return notes


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
        "notes": result.notes,
    }


def _marks(result: SetResult, name: str) -> dict[str, Sequence[str]]:
    best, second = result.leaders(name)
    return {"best": sorted(best), "second": sorted(second)}


def _printed(comparison: Comparison, where: str, method: str) -> dict[str, float]:
    return {name: value for (s, m, name), value in comparison.printed.items() if (s, m) == (where, method)}
