"""The unsupervised fusion loss: what the fused image shall keep of its two sources.

All images are N x 1 x H x W float tensors in [0, 1]; every term is a scalar, 0 at its best.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each term counts."""

    intensity: float
    gradient: float
    ssim: float
    correlation: float


def intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean absolute distance to the brighter source (SeAFusion, Tang et al. 2022, eq. 4)."""
    return F.l1_loss(fused, torch.maximum(infrared, visible))


def _larger(first: Tensor, second: Tensor) -> Tensor:
    return torch.where(first.abs() >= second.abs(), first, second)


def gradient_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean absolute distance of the finite differences to the larger source's, sign included.

    The sign keeps edges the right way round (a loss on magnitudes allows halos).
    """
    total = fused.new_zeros(())
    for axis in (-1, -2):
        target = _larger(infrared.diff(dim=axis), visible.diff(dim=axis))
        total = total + F.l1_loss(fused.diff(dim=axis), target)
    return total / 2


def ssim(first: Tensor, second: Tensor, window: int = 7) -> Tensor:
    """Mean SSIM (Wang et al. 2004, eq. 13) with a box window, valid region, dynamic range 1."""
    c1, c2 = 0.01**2, 0.03**2

    def mean(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, window, stride=1)

    mu1, mu2 = mean(first), mean(second)
    var1, var2 = mean(first * first) - mu1 * mu1, mean(second * second) - mu2 * mu2
    covariance = mean(first * second) - mu1 * mu2
    score = ((2 * mu1 * mu2 + c1) * (2 * covariance + c2)) / ((mu1**2 + mu2**2 + c1) * (var1 + var2 + c2))
    return score.mean()


def ssim_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """One minus the mean of the SSIM to both sources."""
    return 1 - (ssim(fused, infrared) + ssim(fused, visible)) / 2


def _pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation of each image of the batch: N."""
    a, b = first.flatten(1), second.flatten(1)
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    # The constant keeps flat crops (no variance, no correlation) out of the gradient.
    return (a * b).mean(dim=1) / torch.sqrt((a * a).mean(dim=1) * (b * b).mean(dim=1) + _EPSILON)


def correlation_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Two minus the sum of correlations of differences (Aslantas and Bendes 2015, eq. 4), halved.

    Images whose sources are the same count as perfect: there the term would reward any stretch of
    contrast, however small.
    """
    scd = _pearson(fused - visible, infrared) + _pearson(fused - infrared, visible)
    differ = (infrared - visible).square().flatten(1).mean(dim=1) > _EPSILON
    return 1 - torch.where(differ, scd, 2.0).mean() / 2


def fusion_loss(
    fused: Tensor, infrared: Tensor, visible: Tensor, weights: LossWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum and its unweighted terms by name."""
    terms = {
        "intensity": intensity_loss(fused, infrared, visible),
        "gradient": gradient_loss(fused, infrared, visible),
        "ssim": ssim_loss(fused, infrared, visible),
        "correlation": correlation_loss(fused, infrared, visible),
    }
    total = (
        weights.intensity * terms["intensity"]
        + weights.gradient * terms["gradient"]
        + weights.ssim * terms["ssim"]
        + weights.correlation * terms["correlation"]
    )
    return total, terms
