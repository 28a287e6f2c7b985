"""The unsupervised fusion loss: distances of the fused image to its two sources.

All images are N x 1 x H x W float tensors in [0, 1]; every term is a scalar, 0 at best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fusepipe.train.losses.metric_losses import edge_preservation, soft_mutual_information, visual_information
from fusepipe.train.losses.windows import window_mean

MIN_SIDE_PX = 16
"""Smallest side of an image the losses take: the fidelity's smallest window, three halvings down."""
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weight of each term."""

    intensity: float
    gradient: float
    ssim: float
    correlation: float
    fidelity: float
    edges: float
    information: float


def intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean absolute distance to the brighter source (SeAFusion, Tang et al. 2022, eq. 4)."""
    return F.l1_loss(fused, torch.maximum(infrared, visible))


def _larger(first: Tensor, second: Tensor) -> Tensor:
    return torch.where(first.abs() >= second.abs(), first, second)


def gradient_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean absolute distance of the finite differences to the larger source's, sign included.

    The sign keeps the polarity of edges (a loss on magnitudes allows halos).
    """
    total = fused.new_zeros(())
    for axis in (-1, -2):
        target = _larger(infrared.diff(dim=axis), visible.diff(dim=axis))
        total = total + F.l1_loss(fused.diff(dim=axis), target)
    return total / 2


def ssim_by_image(first: Tensor, second: Tensor, window: int = 7) -> Tensor:
    """SSIM of each image of the batch (Wang et al. 2004, eq. 13) with a box window, valid region, range 1: N."""
    c1, c2 = 0.01**2, 0.03**2

    mu1, mu2 = window_mean(first, window), window_mean(second, window)
    var1 = window_mean(first * first, window) - mu1 * mu1
    var2 = window_mean(second * second, window) - mu2 * mu2
    covariance = window_mean(first * second, window) - mu1 * mu2
    score = ((2 * mu1 * mu2 + c1) * (2 * covariance + c2)) / ((mu1**2 + mu2**2 + c1) * (var1 + var2 + c2))
    return score.mean(dim=(1, 2, 3))


def mean_ssim(first: Tensor, second: Tensor, window: int = 7) -> Tensor:
    """Mean of :func:`ssim_by_image` over the batch; a scalar."""
    return ssim_by_image(first, second, window).mean()


def ssim_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """One minus the mean of the SSIM to both sources."""
    return 1 - (mean_ssim(fused, infrared) + mean_ssim(fused, visible)) / 2


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation of each image of the batch: N."""
    a, b = first.flatten(1), second.flatten(1)
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    # The constant keeps flat crops (no variance, no correlation) out of the gradient.
    return (a * b).mean(dim=1) / torch.sqrt((a * a).mean(dim=1) * (b * b).mean(dim=1) + _EPSILON)


def correlation_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Two minus the sum of correlations of differences (Aslantas and Bendes 2015, eq. 4), halved.

    Images with equal sources have no loss: there the term would reward any change of contrast.
    """
    scd = pearson(fused - visible, infrared) + pearson(fused - infrared, visible)
    differ = (infrared - visible).square().flatten(1).mean(dim=1) > _EPSILON
    return 1 - torch.where(differ, scd, 2.0).mean() / 2


def agreement_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """One minus the mean correlation with both sources."""
    return 1 - (pearson(fused, infrared) + pearson(fused, visible)).mean() / 2


def fidelity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Two minus the sum of the visual information fidelities to both sources, halved."""
    return 1 - (visual_information(infrared, fused) + visual_information(visible, fused)).mean() / 2


def edge_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """One minus the edge preservation Q^AB/F."""
    return 1 - edge_preservation(infrared, visible, fused).mean()


def information_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Eight bits (the maximum per pixel) minus the mutual information with both sources; in bytes."""
    return 1 - (soft_mutual_information(infrared, fused) + soft_mutual_information(visible, fused)).mean() / 8


_TERMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "intensity": intensity_loss,
    "gradient": gradient_loss,
    "ssim": ssim_loss,
    "correlation": correlation_loss,
    "fidelity": fidelity_loss,
    "edges": edge_loss,
    "information": information_loss,
}


def fusion_loss(
    fused: Tensor, infrared: Tensor, visible: Tensor, weights: LossWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum and its unweighted terms by name; terms of weight 0 are not computed."""
    total, terms = fused.new_zeros(()), {}
    for name, term in _TERMS.items():
        weight = getattr(weights, name)
        if weight:
            terms[name] = term(fused, infrared, visible)
            total = total + weight * terms[name]
    return total, terms
