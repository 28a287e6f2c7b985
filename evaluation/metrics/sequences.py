"""The table of metrics of sequences; :mod:`fusepipe.evaluation.metrics.registry` has those of single images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.metrics.flow_difference import flow_difference, relative_flow_difference
from fusepipe.evaluation.metrics.temporal import luminance_excess, temporal_ratio


@dataclass(frozen=True, slots=True)
class SequenceMetric:
    """One row of sequences: ``function(ir, vis, fused)`` on equally many HxW uint8 frames, two or more."""

    name: str
    direction: Literal["lower"]
    definition: str
    span: str
    source: str
    function: Callable[[Sequence[Luma8], Sequence[Luma8], Sequence[Luma8]], float]


SEQUENCE_METRICS: dict[str, SequenceMetric] = {
    row.name: row
    for row in (
        SequenceMetric(
            "TR",
            "lower",
            "temporal ratio: error along the motion per standard deviation, over the sources' mean of it",
            "0 upward, 1 = no flicker added",
            "Lai et al. 2018, with Farneback 2003",
            temporal_ratio,
        ),
        SequenceMetric(
            "LE",
            "lower",
            "luminance excess: how far the mean's step leaves the range of both sources' steps and 0, grey levels",
            "0 to 255",
            "this project",
            luminance_excess,
        ),
        SequenceMetric(
            "flowD",
            "lower",
            "mean absolute difference to the last fused frame, warped by the visible frames' optical flow (DIS)",
            "0 to 255, grey levels",
            "VideoFusion, CVPR 2026, with Kroeger et al. 2016",
            flow_difference,
        ),
        SequenceMetric(
            "flowD_SD",
            "lower",
            "flowD over the mean standard deviation of the fused frames: flowD alone rewards low contrast",
            "0 upward",
            "this project",
            relative_flow_difference,
        ),
    )
}
