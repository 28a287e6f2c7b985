"""Terms against flicker: the network fuses a crop a second time, with other noise and another exposure.

Both terms are those of the temporal metrics (``fusepipe.evaluation.metrics.temporal``) for a static scene, whose
flow is therefore known: 0. In bf16 a network's last layer rounds bright pixels to grey levels, which adds to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

_NOISE = 0.012  # of the full range: standard deviations are .3 to 1.3 of it, 1 to 4 grey levels
_EXPOSURE = 0.02  # largest change, of the full range
_CALM = 0.8  # flicker below this share of the sources' own costs nothing
_SPREAD = 0.02  # of flat crops, whose relative flicker would mean nothing
_PER_LUMINANCE = 1 / _EXPOSURE  # in units of the largest change, as flicker is in units of the sources'


@dataclass(frozen=True, slots=True)
class SecondView:
    """Noise (N x 1 x H x W) and change of exposure (N x 1 x 1 x 1) of the infrared and of the visible image."""

    noise: tuple[Tensor, Tensor]
    exposure: tuple[Tensor, Tensor]

    @staticmethod
    def joined(views: Sequence[SecondView]) -> SecondView:
        """The views of single images as one of a batch."""
        noise = [torch.cat([view.noise[band] for view in views]) for band in (0, 1)]
        exposure = [torch.cat([view.exposure[band] for view in views]) for band in (0, 1)]
        return SecondView((noise[0], noise[1]), (exposure[0], exposure[1]))

    @staticmethod
    def at(infrared: Tensor, seed: int) -> SecondView:
        """The second augmented view of a batch of this shape; depends on the seed only, not on the device."""
        source = torch.Generator().manual_seed(seed)
        count = len(infrared)
        deviation = _NOISE * (0.3 + torch.rand(2, count, 1, 1, 1, generator=source))
        exposure = _EXPOSURE * (2 * torch.rand(2, count, 1, 1, 1, generator=source) - 1)
        noise = deviation * torch.randn(2, *infrared.shape, generator=source)
        pair = [cast(tuple[Tensor, Tensor], tuple(part.to(infrared.device))) for part in (noise, exposure)]
        return SecondView(pair[0], pair[1])

    def seen(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """The images of the second augmented view."""
        return infrared + self.noise[0] + self.exposure[0], visible + self.noise[1] + self.exposure[1]


def temporal_consistency(
    infrared: Tensor, visible: Tensor, fused: Tensor, second: Tensor, view: SecondView
) -> tuple[Tensor, Tensor]:
    """Flicker and luminance loss of the change from ``fused`` to the second view ``second``; scalars, 0 at best.

    Flicker: how far its mean absolute change, relative to the image's spread, is above ``_CALM`` of the sources' (TR).
    Luminance: how far the mean moves beyond the two exposures and 0 (luminance excess).
    """
    change = second - fused
    step = change.mean(dim=(1, 2, 3))
    own = _relative(change - step[:, None, None, None], fused)
    theirs = (_relative(view.noise[0], infrared) + _relative(view.noise[1], visible)) / 2
    flicker = F.relu(own / (theirs + 1e-4) - _CALM).mean()
    first, other = (exposure.flatten() for exposure in view.exposure)
    above = F.relu(step - torch.maximum(first, other).clamp_min(0))
    below = F.relu(torch.minimum(first, other).clamp_max(0) - step)
    return flicker, (above + below).mean() * _PER_LUMINANCE


def _relative(change: Tensor, image: Tensor) -> Tensor:
    return change.abs().mean(dim=(1, 2, 3)) / (image.flatten(1).std(dim=1) + _SPREAD)
