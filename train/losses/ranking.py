"""How often other fused images are ahead of the network's: the mean rank of the tables as a loss.

A sum of metrics has one trade-off for all scenes. A rank has not: where the fused image is well ahead in one metric, or
cannot catch up, only the others are worth a change. The metrics are the differentiable ones of ``losses.fusion``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusepipe.train.losses.fusion import pearson, ssim_by_image
from fusepipe.train.losses.metric_losses import edge_preservation, soft_mutual_information, visual_information

_STEPS = torch.tensor((0.25, 0.02, 0.06, 0.025, 0.08, 0.012))
"""Leads of MI, CC, VIF, Q^AB/F, SCD and SSIM that count as 73 % of a comparison won; three times as much as 95 %."""


def ranking_loss(fused: Tensor, infrared: Tensor, visible: Tensor, rivals: Sequence[Tensor]) -> Tensor:
    """The share of comparisons that are lost, over six metrics and the rivals (fused images of the same pair).

    N x 1 x H x W images in [0, 1]; a scalar in (0, 1), a half where all are equal.
    """
    own = _metrics(fused, infrared, visible)
    with torch.no_grad():
        theirs = torch.stack([_metrics(rival, infrared, visible) for rival in rivals])
    return torch.sigmoid((theirs - own) / _STEPS.to(own.device)).mean()


def _metrics(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """N x 6: MI in bits, CC, VIF as a sum, Q^AB/F, SCD, SSIM; higher is better."""
    found = (
        soft_mutual_information(infrared, fused) + soft_mutual_information(visible, fused),
        (pearson(fused, infrared) + pearson(fused, visible)) / 2,
        visual_information(infrared, fused) + visual_information(visible, fused),
        edge_preservation(infrared, visible, fused),
        pearson(fused - visible, infrared) + pearson(fused - infrared, visible),
        (ssim_by_image(fused, infrared) + ssim_by_image(fused, visible)) / 2,
    )
    return torch.stack(found, dim=1)
