"""Losses of FusionGAN (Ma et al. 2019); images are N x 1 x H x W in [0, 1], scores N x 1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def laplacian(image: Tensor) -> Tensor:
    """Sum of the four neighbours minus four times the pixel: N x 1 x (H - 2) x (W - 2)."""
    middle = image[..., 1:-1, 1:-1]
    rows = image[..., :-2, 1:-1] + image[..., 2:, 1:-1]
    columns = image[..., 1:-1, :-2] + image[..., 1:-1, 2:]
    return rows + columns - 4 * middle


def content_losses(made: Tensor, infrared: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Unweighted MSE to the infrared and MSE of the Laplacians to the visible image, on [-1, 1] (eq. 4)."""
    # a distance in [-1, 1] is twice that in [0, 1]
    return {
        "intensity": 4 * F.mse_loss(made, infrared),
        "gradient": 4 * F.mse_loss(laplacian(made), laplacian(visible)),
    }


def _labels(score: Tensor, low: float, high: float, noise: torch.Generator) -> Tensor:
    return torch.empty(score.shape).uniform_(low, high, generator=noise).to(score.device)


def adversarial_loss(score: Tensor, noise: torch.Generator) -> Tensor:
    """Least squares to soft labels of a real image, 0.7 .. 1.2 (eq. 3); ``score`` is N x 1 of fused patches."""
    return F.mse_loss(score, _labels(score, 0.7, 1.2, noise))


def critic_loss(real: Tensor, made: Tensor, noise: torch.Generator) -> Tensor:
    """Least squares to soft labels: 0.7 .. 1.2 for visible patches, 0 .. 0.3 for fused ones (eq. 6); N x 1 each."""
    return F.mse_loss(real, _labels(real, 0.7, 1.2, noise)) + F.mse_loss(made, _labels(made, 0.0, 0.3, noise))
