"""The results of a comparison: sets of images, methods, values. Plain data for tables and reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.baselines.trivial import TRIVIAL_RULES
from fusepipe.evaluation.detection.score import DetectionScore
from fusepipe.evaluation.metrics.registry import METRICS
from fusepipe.evaluation.ranks import MethodRanks, method_ranks
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

    ``luminance`` has the mean grey levels of the sources, ``ir`` and ``vis``, image by image; ``detection`` what a
    detector sees in ``infrared``, ``visible`` and each method's images.
    """

    name: str
    images: list[str]
    sequence: bool = False
    methods: list[MethodResult] = field(default_factory=list)
    luminance: dict[str, list[float]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    detection: dict[str, DetectionScore] = field(default_factory=dict)

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

    ``metrics`` are the columns, ``ranked_by`` those that the mean rank is taken over (none: no ranking).
    ``unavailable`` gives the reason of each method that did not run,
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
    ranked_by: list[str] = field(default_factory=list)
    detection_over_sets: dict[str, DetectionScore] = field(default_factory=dict)

    def ranking(self, result: SetResult) -> list[MethodRanks]:
        """All methods of a set, the trivial rules too, best mean rank first; empty without anything to rank."""
        means = {method.name: {name: mean_of(method, name) for name in self.ranked_by} for method in result.methods}
        return method_ranks(means, self.ranked_by)

    @property
    def columns(self) -> list[str]:
        """The metrics that are columns of their own: bounds are shown with the metric they limit."""
        return [name for name in self.metrics if METRICS[name].direction != "bound"]


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
