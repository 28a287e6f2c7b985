"""Metrics of a clip while it is fused: those of ``fusepipe compare``, on a few of its pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fusepipe.core.frames import FusedFrame, PairState
from fusepipe.core.levels import full_range_luma
from fusepipe.evaluation.scorer import Triple
from fusepipe.evaluation.scores import VARIANTS, metric_names, score_triple, summary
from fusepipe.pipeline.views.panels import infrared_luma

SAMPLE = 4  # pairs of a clip at most: all metrics of one pair of 640x480 take longer than fusing a hundred


def chosen_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """The metrics of ``--metrics``: names, or one variant. Raises :class:`UsageError` for an unknown one."""
    if len(names) == 1 and names[0] in VARIANTS:
        return tuple(metric_names(names[0]))
    return tuple(metric_names(chosen=names))


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
        infrared, visible = infrared_luma(frame), frame.pair.visible
        if frame.state is not PairState.FUSED or infrared is None or visible is None:
            return
        number, self._seen = self._seen, self._seen + 1
        if number % self._every:
            return
        if len(self._kept) == SAMPLE:
            del self._kept[1::2]
            self._every *= 2
        if number % self._every == 0:
            images = (infrared, full_range_luma(visible.luma), full_range_luma(frame.planes[0]))
            self._kept.append(Triple(str(number), *(np.array(image) for image in images)))

    def scores(self) -> dict[str, float]:
        """The mean of each metric over the kept pairs, without those that are not defined at the clip's size."""
        rows = [score_triple(triple.ir, triple.vis, triple.fused, self._names) for triple in self._kept]
        means = {name: summary([row[name] for row in rows]) for name in self._names}
        return {name: found.mean for name, found in means.items() if found is not None}
