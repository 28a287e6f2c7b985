"""Statistics over images: the selected metrics, their mean and spread, and the leading methods.

Pure functions on the table of :mod:`fusepipe.evaluation.metrics.registry`; nothing here reads a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.suggest import did_you_mean
from fusepipe.evaluation.metrics.registry import METRICS, Metric, Selection, measure, names_of

VARIANTS: dict[str, Selection] = {"paper": "paper", "common": "common", "all": "all"}

# metric -> value of one image; None where the metric is not defined for it (an image that is too small)
Scores = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric over many images: mean, sample standard deviation (0 for one image) and the extremes.

    ``count`` is the number of images that have a value.
    """

    mean: float
    spread: float
    min: float
    max: float
    count: int


def metric_names(variant: str = "paper", chosen: Sequence[str] | None = None) -> list[str]:
    """The metrics asked for by name, else those of a variant together with those all codes agree on.

    Raises :class:`UsageError` for an unknown variant or metric.
    """
    if variant not in VARIANTS:
        raise UsageError(f"unknown variant {variant!r}: {did_you_mean(variant, VARIANTS)}")
    if chosen is None:
        return names_of(VARIANTS[variant])
    if not chosen:
        raise UsageError(f"name at least one metric: {', '.join(METRICS)}")
    for name in chosen:
        if name not in METRICS:
            raise UsageError(f"unknown metric {name!r}: {did_you_mean(name, METRICS)}")
    return list(dict.fromkeys(chosen))


def score_triple(ir: Luma8, vis: Luma8, fused: Luma8, names: Iterable[str]) -> Scores:
    """The metrics of one HxW uint8 triple; ``None`` where the image is smaller than a metric needs."""
    wanted = list(names)
    side = min(fused.shape)
    fitting = [name for name in wanted if side >= METRICS[name].minimum_px]
    values = measure(ir, vis, fused, fitting)
    return {name: values.get(name) for name in wanted}


def summarise(rows: Iterable[Scores], names: Iterable[str]) -> dict[str, Summary | None]:
    """Each metric over the images that have it; ``None`` where none has."""
    listed = list(rows)
    return {name: summary([row.get(name) for row in listed]) for name in names}


def summary(values: Iterable[float | None]) -> Summary | None:
    """Mean and spread of the existing values, in the given order (deterministic)."""
    have = [value for value in values if value is not None]
    if not have:
        return None
    mean = math.fsum(have) / len(have) if all(map(math.isfinite, have)) else sum(have) / len(have)
    spread = math.nan
    if math.isfinite(mean):
        power = math.fsum((value - mean) ** 2 for value in have)
        spread = math.sqrt(power / (len(have) - 1)) if len(have) > 1 else 0.0
    return Summary(mean, spread, min(have), max(have), len(have))


def leaders(means: Mapping[str, float | None], metric: Metric, decimals: int = 9) -> tuple[set[str], set[str]]:
    """(best, second best) of methods by one metric, by its direction; ties share a rank.

    ``decimals`` is where values count as equal. A bound has no best; one method alone is not marked.
    """
    have = {name: round(value, decimals) for name, value in means.items() if value is not None}
    if metric.direction == "bound" or len(have) < 2:
        return set(), set()
    order = sorted(set(have.values()), reverse=metric.direction == "higher")
    best = {name for name, value in have.items() if value == order[0]}
    second = {name for name, value in have.items() if len(order) > 1 and value == order[1]}
    return best, second if len(best) == 1 else set()


def beats(value: float, best: float, metric: Metric) -> bool:
    """Is ``value`` better than ``best`` in this metric's direction?"""
    return value > best if metric.direction == "higher" else value < best


def shown(value: float | None, digits: int = 4) -> str:
    """A number with about ``digits`` significant figures, as tables show it; a dash for None."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    decimals = digits - 1 - (math.floor(math.log10(abs(value))) if abs(value) >= 1 else 0)
    return f"{value:.{max(0, decimals)}f}"
