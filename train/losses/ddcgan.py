"""Losses of DDcGAN (Ma et al. 2020); images are N x 1 x H x W in [0, 1], scores N x 1 logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def content_losses(made: Tensor, infrared: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Unweighted |F - ir|^2 and |grad F - grad vis|_1, means over pixels on [-1, 1] (eq. 5)."""
    # a distance in [-1, 1] is twice that in [0, 1]
    difference = 2 * (made - visible)
    gradient = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return {"intensity": 4 * F.mse_loss(made, infrared), "gradient": gradient}


def adversarial_loss(score: Tensor) -> Tensor:
    """The generator's adversarial loss, -log D(F); ``score`` is N x 1 logits.

    The non-saturating form of eqs. 3 and 4 (Goodfellow et al. 2014): log(1 - D(F)) has no gradient while
    the discriminators win, which they do in a short training.
    """
    return F.softplus(-score).mean()


def critic_loss(real: Tensor, made: Tensor) -> Tensor:
    """-log D(source) - log(1 - D(F)) of N x 1 logits (eqs. 8 and 9)."""
    return F.softplus(-real).mean() + F.softplus(made).mean()
