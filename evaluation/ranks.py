"""Mean ranks of fusion methods: one number that a single metric, which trivial rules win, does not give.

Pure functions on means; nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusepipe.evaluation.metrics.registry import METRICS, Metric

FAMILIES = (
    ("MI", "MI_nats"),
    ("CC",),
    ("SCD",),
    ("SSIM", "SSIM_L255"),
    ("Qabf", "Qabf_atan"),
    ("VIF", "VIF_mean"),
)
"""The metrics that a mean rank is taken over unless others are named: of each, the first variant that was measured.

They compare the fused image with both sources. Metrics of the fused image alone grow with noise; MSE and PSNR only ask
how near it is to the sources' mean.
"""
EQUAL_DECIMALS = 9
"""Means that agree to this many decimals are tied."""


@dataclass(frozen=True, slots=True)
class MethodRanks:
    """The ranks of one method on one set: 1 is best, and tied methods share the mean of their places.

    ``tied`` has, for each metric, the methods that have the same mean.
    """

    method: str
    ranks: Mapping[str, float]
    tied: Mapping[str, Sequence[str]]

    @property
    def mean(self) -> float:
        """The mean rank over the metrics."""
        return sum(self.ranks.values()) / len(self.ranks)


def default_metrics(measured: Sequence[str]) -> list[str]:
    """Of each family of :data:`FAMILIES` the variant that was measured, if any."""
    found = (next((name for name in family if name in measured), None) for family in FAMILIES)
    return [name for name in found if name is not None]


def ranks(means: Mapping[str, float], metric: Metric) -> dict[str, float]:
    """The rank of each method by one metric, in its direction; tied methods share the mean of their places.

    (3, 2, 2, 1), higher is better: 1, 2.5, 2.5, 4.
    """
    rounded = {name: round(value, EQUAL_DECIMALS) for name, value in means.items()}
    sign = 1 if metric.direction == "lower" else -1
    keys = {name: sign * value for name, value in rounded.items()}
    values = list(keys.values())
    return {name: sum(v < key for v in values) + (values.count(key) + 1) / 2 for name, key in keys.items()}


def method_ranks(means: Mapping[str, Mapping[str, float | None]], metrics: Sequence[str]) -> list[MethodRanks]:
    """The ranks of all methods, best mean rank first, from each method's mean of each metric.

    Metrics without a direction, and those that some method has no value for, are left out. Empty if none is left, or
    with fewer than two methods.
    """
    usable: dict[str, dict[str, float]] = {}
    for name in metrics:
        values = {method: of_method.get(name) for method, of_method in means.items()}
        known = {method: value for method, value in values.items() if value is not None}
        if METRICS[name].direction != "bound" and len(known) == len(values) and len(known) > 1:
            usable[name] = known
    if not usable:
        return []
    by_metric = {name: ranks(values, METRICS[name]) for name, values in usable.items()}
    found = []
    for method in means:
        own = {name: places[method] for name, places in by_metric.items()}
        tied = {
            name: [other for other, place in by_metric[name].items() if other != method and place == rank]
            for name, rank in own.items()
        }
        found.append(MethodRanks(method, own, {name: others for name, others in tied.items() if others}))
    return sorted(found, key=lambda entry: entry.mean)


def places(entries: Sequence[tuple[str, float]]) -> dict[str, int]:
    """The place of each method by mean rank, best first; equal mean ranks share a place (1, 2, 2, 4)."""
    rounded = [(name, round(mean, EQUAL_DECIMALS)) for name, mean in entries]
    return {name: 1 + sum(other < mean for _, other in rounded) for name, mean in rounded}


def over_sets(sets: Sequence[Sequence[MethodRanks]]) -> dict[str, float]:
    """The mean of the mean ranks over several sets, best first, of the methods that all sets have."""
    by_set = [{entry.method: entry.mean for entry in entries} for entries in sets]
    common = [method for method in by_set[0] if all(method in entries for entries in by_set)] if by_set else []
    means = {method: sum(entries[method] for entries in by_set) / len(by_set) for method in common}
    return dict(sorted(means.items(), key=lambda item: item[1]))
