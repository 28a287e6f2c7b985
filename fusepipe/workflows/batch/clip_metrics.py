"""Metrics of a clip while it is fused: those of ``fusepipe compare``, on a few of its pairs."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from fusepipe.core.frames import FusedFrame, PairState
from fusepipe.core.levels import full_range_luma
from fusepipe.evaluation.scorer import Triple
from fusepipe.evaluation.scores import VARIANTS, Scores, metric_names, score_triple, summary
from fusepipe.pipeline.views.panels import infrared_luma

SAMPLE = 4  # pairs of a clip at most: all metrics of one pair of 640x480 take longer than fusing a hundred


def chosen_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """The metrics of ``--metrics``: names, or one variant. Raises :class:`UsageError` for an unknown one."""
    if len(names) == 1 and names[0] in VARIANTS:
        return tuple(metric_names(names[0]))
    return tuple(metric_names(chosen=names))


def sampled_pairs(fused: int) -> range:
    """Which of the fused pairs of a clip :class:`ClipMetrics` keeps; both count from 0."""
    every = 1
    while fused > SAMPLE * every:
        every *= 2
    return range(0, fused, every)


def mean_of_pairs(rows: Sequence[Scores], names: Sequence[str]) -> dict[str, float]:
    """The mean of each metric over pairs, without those that are not defined at the clip's size."""
    means = {name: summary([row[name] for row in rows]) for name in names}
    return {name: found.mean for name, found in means.items() if found is not None}


def triple_of(frame: FusedFrame) -> Triple | None:
    """The images of a frame that are scored, not copied; ``None`` of one that is not fused."""
    infrared, visible = infrared_luma(frame), frame.pair.visible
    if frame.state is not PairState.FUSED or infrared is None or visible is None:
        return None
    return Triple("", infrared, full_range_luma(visible.luma), full_range_luma(frame.planes[0]))


class ClipMetrics:
    """Keeps evenly spaced fused pairs of a run, as a callback for its frames, and scores them afterwards.

    Which pairs depends on their number alone, so that every run of a clip gives the same figures.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._kept: list[Triple] = []
        self._every = 1
        self._seen = 0

    def __call__(self, frame: FusedFrame) -> None:
        """Takes every frame of the run; one thread calls this."""
        triple = triple_of(frame)
        if triple is None:
            return
        number, self._seen = self._seen, self._seen + 1
        if number % self._every:
            return
        if len(self._kept) == SAMPLE:
            del self._kept[1::2]
            self._every *= 2
        if number % self._every == 0:
            self._kept.append(_copied(triple))

    def scores(self) -> dict[str, float]:
        """The mean of each metric over the kept pairs, see :func:`mean_of_pairs`."""
        return mean_of_pairs([_scored(triple, self._names) for triple in self._kept], self._names)


class PartMetrics:
    """The same of a part of a clip, from ``begin_ns`` on, whose first fused pair is the number ``first`` of the clip.

    ``wanted``: the pairs to keep, see :func:`sampled_pairs`.
    """

    def __init__(self, names: Sequence[str], wanted: Container[int], first: int, begin_ns: int | None) -> None:
        self._names, self._wanted, self._number, self._begin_ns = tuple(names), wanted, first, begin_ns
        self._kept: list[Triple] = []

    def __call__(self, frame: FusedFrame) -> None:
        """Takes every frame of the run; one thread calls this."""
        early = self._begin_ns is not None and frame.capture_ns < self._begin_ns
        triple = None if early else triple_of(frame)
        if triple is None:
            return
        if self._number in self._wanted:
            self._kept.append(_copied(triple))
        self._number += 1

    def rows(self) -> list[Scores]:
        """The metrics of each kept pair, in their order."""
        return [_scored(triple, self._names) for triple in self._kept]


def _copied(triple: Triple) -> Triple:
    return Triple(triple.name, *(np.array(image) for image in (triple.ir, triple.vis, triple.fused)))


def _scored(triple: Triple, names: Sequence[str]) -> Scores:
    return score_triple(triple.ir, triple.vis, triple.fused, names)
