"""Scores of a network on pairs, with the project's own metrics (those of the method's tables)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.metrics.fidelity import vif_sum
from fusepipe.evaluation.metrics.gradients import qabf
from fusepipe.evaluation.metrics.information import mutual_information
from fusepipe.evaluation.metrics.similarity import correlation, scd, ssim
from fusepipe.train.data.pairs import Pair
from fusepipe.train.networks.byte_fusion import ByteFusion

METRICS: Mapping[str, Callable[[Luma8, Luma8, Luma8], float]] = {
    "MI": mutual_information,
    "CC": correlation,
    "VIF": vif_sum,
    "Qabf": lambda ir, vis, fused: qabf(ir, vis, fused, variant="common"),
    "SCD": scd,
    "SSIM": lambda ir, vis, fused: ssim(ir, vis, fused, variant="common"),
}
"""Name to metric of (infrared, visible, fused), HxW uint8; all are better when higher."""


def fuse_pair(network: nn.Module, pair: Pair) -> Luma8:
    """The pair fused by the network on its device: HxW uint8."""
    device = next(network.parameters()).device
    infrared, visible = (torch.from_numpy(image)[None, None].to(device) for image in (pair.infrared, pair.visible))
    with torch.no_grad():
        fused = ByteFusion(network)(infrared, visible)
    return np.asarray(fused[0, 0].cpu().numpy(), dtype=np.uint8)


def mean_scores(network: nn.Module, pairs: Sequence[Pair]) -> dict[str, float]:
    """The mean of each metric over the pairs, in the pairs' working size."""
    totals = dict.fromkeys(METRICS, 0.0)
    for pair in pairs:
        fused = fuse_pair(network, pair)
        for name, metric in METRICS.items():
            totals[name] += float(metric(pair.infrared, pair.visible, fused)) / len(pairs)
    return totals
