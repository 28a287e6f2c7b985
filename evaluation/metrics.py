"""The table of fusion metrics: each with its variant and direction; the functions are re-exported here.

Where the community's codes disagree, ``paper`` is the variant in which published numbers of the CBF
method were reproduced, ``common`` the one most public codes print. No single metric ranks methods: the
rules ``max``, ``mean`` and ``sum`` each win some of them.

A new metric is a pure function on HxW uint8 luma, a row here and a test on a hand-computed image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from fusepipe.errors import UsageError
from fusepipe.evaluation.gradients import average_gradient, qabf, spatial_frequency
from fusepipe.evaluation.images import Variant, require_luma
from fusepipe.evaluation.information import entropy, mutual_information, standard_deviation
from fusepipe.evaluation.similarity import correlation, correlation_bound, scd, ssim, ssim_with, vif, vif_sum
from fusepipe.frames import Luma8
from fusepipe.registry import nearest

__all__ = [
    "METRICS",
    "Metric",
    "average_gradient",
    "correlation",
    "correlation_bound",
    "entropy",
    "measure",
    "mutual_information",
    "qabf",
    "scd",
    "spatial_frequency",
    "ssim",
    "ssim_with",
    "standard_deviation",
    "vif",
    "vif_sum",
]

Direction = Literal["higher", "lower", "bound"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row: ``function(ir, vis, fused)`` on HxW uint8 luma gives one number.

    ``variant`` is ``None`` where all codes agree. ``direction`` says what is better; ``bound`` marks a
    number of the sources alone that limits another row. ``minimum_px`` is the least width and height.
    ``definition`` is the one line that reports print.
    """

    name: str
    variant: Variant | None
    direction: Direction
    definition: str
    function: Callable[[Luma8, Luma8, Luma8], float]
    minimum_px: int = 1


def _of_fused(function: Callable[[Luma8], float]) -> Callable[[Luma8, Luma8, Luma8], float]:
    """A metric of the fused image alone, in the table's signature."""

    def metric(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
        require_luma(ir=ir, vis=vis, fused=fused)
        return function(fused)

    return metric


def _bound(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    require_luma(ir=ir, vis=vis, fused=fused)
    return correlation_bound(ir, vis)


_ROWS = (
    Metric(
        "MI",
        "paper",
        "higher",
        "mutual information with both sources, bits, 256x256 bins",
        mutual_information,
    ),
    Metric("MI_nats", "common", "higher", "the same in nats", partial(mutual_information, variant="common")),
    Metric("CC", None, "higher", "mean of the correlations with both sources", correlation),
    Metric("CC_bound", None, "bound", "the largest CC any image can have with these sources", _bound),
    Metric("SCD", None, "higher", "sum of the correlations of differences", scd),
    Metric("SSIM", "paper", "higher", "mean SSIM with both, Gaussian 11, L = 1 on 0..255 data", ssim, 11),
    Metric(
        "SSIM_L255",
        "common",
        "higher",
        "mean SSIM with both, Gaussian 11, L = 255",
        partial(ssim, variant="common"),
        11,
    ),
    Metric("Qabf", "paper", "higher", "edge preservation, atan2, symmetric padding", qabf),
    Metric(
        "Qabf_atan",
        "common",
        "higher",
        "edge preservation, atan, zero padding",
        partial(qabf, variant="common"),
    ),
    Metric("VIF", None, "higher", "pixel-domain visual information fidelity, sum over both", vif_sum, 41),
    Metric("EN", None, "higher", "entropy of the fused image, bits", _of_fused(entropy)),
    Metric(
        "SD",
        None,
        "higher",
        "population standard deviation of the fused image",
        _of_fused(standard_deviation),
    ),
    Metric("SF", None, "higher", "spatial frequency of the fused image", _of_fused(spatial_frequency)),
    Metric("AG", None, "higher", "average gradient of the fused image", _of_fused(average_gradient)),
)

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}


def measure(ir: Luma8, vis: Luma8, fused: Luma8, names: Iterable[str] | None = None) -> dict[str, float]:
    """The metrics named (all of the table by default) of one triple of HxW uint8 images.

    Raises :class:`UsageError` for an unknown name, images that differ in size, or too small ones.
    """
    chosen = list(METRICS if names is None else names)
    for name in chosen:
        if name not in METRICS:
            raise UsageError(f"there is no metric {name!r}: {nearest(name, METRICS)}")
    return {name: METRICS[name].function(ir, vis, fused) for name in chosen}
