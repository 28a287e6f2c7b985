"""Losses of DenseFuse (Li and Wu 2019); images are N x 1 x H x W in [0, 1]."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fusepipe.train.losses.fusion import mean_ssim


def reconstruction_losses(made: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Unweighted L_pixel (mean squared) and 1 - SSIM between a reconstruction and its photograph (eqs. 1 to 3)."""
    return {"pixel": F.mse_loss(made, image), "ssim": 1 - mean_ssim(made, image)}
