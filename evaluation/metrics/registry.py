"""The table of fusion metrics: each with its variant and direction; the functions are re-exported here.

Where the community's codes disagree, ``paper`` is the variant in which published numbers of the CBF
method were reproduced, ``common`` the one most public codes print. No single metric ranks methods: the
rules ``max``, ``mean`` and ``sum`` each win some of them. ``docs/metrics.md`` is made from this table.

A new metric is a pure function on HxW uint8 luma, a row here and a test on a hand-computed image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.suggest import did_you_mean
from fusepipe.evaluation.luma import Variant, require_luma
from fusepipe.evaluation.metrics.feature_information import FMI_MINIMUM_PX, fmi
from fusepipe.evaluation.metrics.fidelity import VIF_MINIMUM_PX, vif, vif_mean, vif_sum, viff
from fusepipe.evaluation.metrics.gradients import (
    average_gradient,
    average_gradient_matlab,
    nabf,
    qabf,
    spatial_frequency,
)
from fusepipe.evaluation.metrics.information import entropy, mutual_information, standard_deviation
from fusepipe.evaluation.metrics.perceptual import qcb, qcv
from fusepipe.evaluation.metrics.sequences import SEQUENCE_METRICS, SequenceMetric
from fusepipe.evaluation.metrics.similarity import (
    MS_SSIM_MINIMUM_PX,
    correlation,
    correlation_bound,
    ms_ssim,
    mse,
    psnr,
    scd,
    ssim,
    ssim_with,
)
from fusepipe.evaluation.metrics.temporal import luminance_excess, temporal_ratio

__all__ = [
    "METRICS",
    "SEQUENCE_METRICS",
    "Metric",
    "SequenceMetric",
    "average_gradient",
    "average_gradient_matlab",
    "correlation",
    "correlation_bound",
    "entropy",
    "fmi",
    "luminance_excess",
    "measure",
    "ms_ssim",
    "mse",
    "mutual_information",
    "nabf",
    "names_of",
    "psnr",
    "qabf",
    "qcb",
    "qcv",
    "scd",
    "spatial_frequency",
    "ssim",
    "ssim_with",
    "standard_deviation",
    "temporal_ratio",
    "vif",
    "vif_mean",
    "vif_sum",
    "viff",
]

Direction = Literal["higher", "lower", "bound"]
Selection = Literal["paper", "common", "all"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row: ``function(ir, vis, fused)`` on HxW uint8 luma gives one number.

    ``variant`` is ``None`` where the codes agree or one variant alone is given: such a row belongs to every
    selection. ``direction`` is the better direction; ``bound`` marks a number of the sources alone that limits
    another row. ``definition`` is the one line that reports print, ``span`` the range of values, ``source``
    where it is defined. ``minimum_px`` is the least width and height.
    """

    name: str
    variant: Variant | None
    direction: Direction
    definition: str
    span: str
    source: str
    function: Callable[[Luma8, Luma8, Luma8], float]
    minimum_px: int = 1


def _of_fused(function: Callable[[Luma8], float], minimum_px: int = 1) -> Callable[[Luma8, Luma8, Luma8], float]:
    """A metric of the fused image alone, in the table's signature."""

    def metric(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
        require_luma(minimum_px, ir=ir, vis=vis, fused=fused)
        return function(fused)

    return metric


def _bound(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    require_luma(ir=ir, vis=vis, fused=fused)
    return correlation_bound(ir, vis)


_SURVEY = "Ma, Ma, Li 2019"

_ROWS = (
    Metric(
        "MI",
        "paper",
        "higher",
        "mutual information I(IR;F) + I(VIS;F), bits, 256x256 bins",
        "0 to 2 EN",
        "Qu, Zhang, Yan 2002",
        mutual_information,
    ),
    Metric(
        "MI_nats",
        "common",
        "higher",
        "the same in nats",
        "0 to 2 ln 2 EN",
        "Qu, Zhang, Yan 2002",
        partial(mutual_information, variant="common"),
    ),
    Metric(
        "CC", None, "higher", "mean of the correlations r(IR, F) and r(VIS, F)", "-1 to CC_bound", _SURVEY, correlation
    ),
    Metric(
        "CC_bound",
        None,
        "bound",
        "the largest CC any image can have with these sources, sqrt((1 + r(IR, VIS)) / 2)",
        "0 to 1",
        "geometry of unit vectors",
        _bound,
    ),
    Metric(
        "SCD",
        None,
        "higher",
        "sum of the correlations of differences, r(F - VIS, IR) + r(F - IR, VIS)",
        "-2 to 2",
        "Aslantas, Bendes 2015",
        scd,
    ),
    Metric(
        "SSIM",
        "paper",
        "higher",
        "mean SSIM with both, Gaussian 11, sigma 1.5, L = 1 on 0..255 data",
        "-1 to 1",
        "Wang, Bovik, Sheikh, Simoncelli 2004",
        ssim,
        11,
    ),
    Metric(
        "SSIM_L255",
        "common",
        "higher",
        "mean SSIM with both, Gaussian 11, sigma 1.5, L = 255",
        "-1 to 1",
        "Wang, Bovik, Sheikh, Simoncelli 2004",
        partial(ssim, variant="common"),
        11,
    ),
    Metric(
        "MS_SSIM",
        None,
        "higher",
        "mean multi-scale SSIM with both, five scales, L = 255",
        "0 to 1",
        "Wang, Simoncelli, Bovik 2003",
        ms_ssim,
        MS_SSIM_MINIMUM_PX,
    ),
    Metric(
        "Qabf",
        "paper",
        "higher",
        "edges kept, Sobel, orientation by atan2, symmetric padding",
        "0 to 0.975",
        "Xydeas, Petrovic 2000",
        qabf,
    ),
    Metric(
        "Qabf_atan",
        "common",
        "higher",
        "edges kept, Sobel, orientation by atan, zero padding",
        "0 to 0.987",
        "Xydeas, Petrovic 2000",
        partial(qabf, variant="common"),
    ),
    Metric(
        "Nabf",
        None,
        "lower",
        "artifacts: edges stronger than either source's, weighted by what they lose",
        "0 to 1",
        "Shreyamsha Kumar 2013",
        nabf,
    ),
    Metric(
        "VIF",
        "paper",
        "higher",
        "pixel-domain visual information fidelity, sum over both, noise 2",
        "0 upward, 2 for F = IR = VIS",
        "Sheikh, Bovik 2006",
        vif_sum,
        VIF_MINIMUM_PX,
    ),
    Metric(
        "VIF_mean",
        "common",
        "higher",
        "pixel-domain visual information fidelity, mean over both, noise 2",
        "0 upward, 1 for F = IR = VIS",
        "Sheikh, Bovik 2006",
        vif_mean,
        VIF_MINIMUM_PX,
    ),
    Metric(
        "VIFF",
        "common",
        "higher",
        "fidelity to the source kept worse, window by window; noise .005*255^2, weights [1, 0, .15, 1]/2.15",
        "0 upward, 1 for F = IR = VIS",
        "Han, Cai, Cao, Xu 2013",
        viff,
        VIF_MINIMUM_PX,
    ),
    Metric(
        "FMI",
        None,
        "higher",
        "normalised mutual information of gradient magnitudes in 3x3 windows, mean over both",
        "0 to 1",
        "Haghighat, Aghagolzadeh, Seyedarabi 2011",
        fmi,
        FMI_MINIMUM_PX,
    ),
    Metric(
        "Qcb",
        None,
        "higher",
        "local contrast kept after the eye's sensitivity, f0 15.387, f1 1.3456, a .7622, p 3, q 2, Z 1e-4",
        "0 to 1",
        "Chen, Blum 2009",
        qcb,
    ),
    Metric(
        "Qcv",
        None,
        "lower",
        "visible squared difference in 16x16 regions, weighted by edge strength^5, Mannos-Sakrison filter",
        "0 upward",
        "Chen, Varshney 2007",
        qcv,
    ),
    Metric("MSE", None, "lower", "mean over both of the mean squared difference", "0 to 65025", _SURVEY, mse),
    Metric("PSNR", None, "higher", "10 log10(255^2 / MSE), dB", "0 upward, infinite for F = IR = VIS", _SURVEY, psnr),
    Metric(
        "EN",
        None,
        "higher",
        "entropy of the fused image's 256-bin histogram, bits",
        "0 to 8",
        "Roberts, van Aardt, Ahmed 2008",
        _of_fused(entropy),
    ),
    Metric(
        "SD",
        None,
        "higher",
        "population standard deviation of the fused image",
        "0 to 127.5",
        "Rao 1997",
        _of_fused(standard_deviation),
    ),
    Metric(
        "SF",
        None,
        "higher",
        "spatial frequency: root of the mean squared row plus column differences of the fused image",
        "0 to 361",
        "Eskicioglu, Fisher 1995",
        _of_fused(spatial_frequency),
    ),
    Metric(
        "AG",
        "paper",
        "higher",
        "average gradient of the fused image, mean sqrt((gx^2 + gy^2) / 2), central differences",
        "0 to 255",
        "Cui et al. 2015",
        _of_fused(average_gradient),
    ),
    Metric(
        "AG_matlab",
        "common",
        "higher",
        "the same sum divided by (H-1)(W-1)",
        "0 upward",
        "Cui et al. 2015",
        _of_fused(average_gradient_matlab, 2),
        2,
    ),
)

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}


def names_of(variant: Selection) -> list[str]:
    """The rows that ``--variant`` selects, in the table's order: each measure once, or all of the table.

    ``paper`` and ``common``: the rows of that variant and those without one. Raises :class:`UsageError`.
    """
    if variant not in ("paper", "common", "all"):
        raise UsageError(f"unknown metric variant {variant!r}; known: paper, common, all")
    return [name for name, row in METRICS.items() if variant == "all" or row.variant in (None, variant)]


def measure(ir: Luma8, vis: Luma8, fused: Luma8, names: Iterable[str] | None = None) -> dict[str, float]:
    """The metrics named (all of the table by default) of one triple of HxW uint8 images.

    Raises :class:`UsageError` for an unknown name, images that differ in size, or too small ones.
    """
    chosen = list(METRICS if names is None else names)
    for name in chosen:
        if name not in METRICS:
            raise UsageError(f"unknown metric {name!r}: {did_you_mean(name, METRICS)}")
    values: dict[str, float] = {}
    for name in chosen:
        if name == "VIF_mean" and "VIF" in values:
            # the costliest pair of rows: exactly half of what is there already
            values[name] = values["VIF"] / 2.0
        else:
            values[name] = METRICS[name].function(ir, vis, fused)
    return values
