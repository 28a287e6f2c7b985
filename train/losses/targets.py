"""Warm objects should stand out of their surroundings in the fused image as they do in the infrared image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_CELLS_PX = (8, 8, 4)  # of the surroundings, at full, half and quarter size
_CELLS_AROUND = 5  # side of the surroundings, in cells
_FAINT, _STRONG = 0.7, 2.0  # local contrast over the image's own from which an object is salient, and fully so
_FLAT = 0.02  # contrast of flat images, which have no salient objects
_OWN_EDGES = 0.7  # infrared gradients from this share of the visible ones on are the object's own
_SCALE = 3.0


def target_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Contrast and inner edges that objects warmer than their surroundings have lost, over three scales; 0 at best.

    N x 1 x H x W images in [0, 1], sides of 64 or more; a scalar.
    """
    total = fused.new_zeros(())
    for scale, cell_px in enumerate(_CELLS_PX):
        if scale:
            fused, infrared, visible = (F.avg_pool2d(image, 2) for image in (fused, infrared, visible))
        with torch.no_grad():
            contrast, salience = _warm(infrared, cell_px)
        missing = F.relu(contrast.clamp_min(0) - (fused - _surroundings(fused, cell_px)))
        total = total + (salience * missing).mean()
        for axis in (-1, -2):
            own, other = infrared.diff(dim=axis), visible.diff(dim=axis)
            wanted = torch.where(own.abs() >= _OWN_EDGES * other.abs(), own, other)
            inside = salience.narrow(axis, 0, salience.shape[axis] - 1)
            total = total + (inside * (fused.diff(dim=axis) - wanted).abs()).mean()
    return _SCALE * total / len(_CELLS_PX)


def _warm(infrared: Tensor, cell_px: int) -> tuple[Tensor, Tensor]:
    """Contrast of each pixel to its surroundings, and how far it stands out by warmth, in [0, 1]."""
    contrast = infrared - _surroundings(infrared, cell_px)
    spread = contrast.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + _FLAT
    return contrast, ((contrast / spread - _FAINT) / (_STRONG - _FAINT)).clamp(0, 1)


def _surroundings(image: Tensor, cell_px: int) -> Tensor:
    """The mean of an image around each pixel, over five cells."""
    cells = F.avg_pool2d(image, cell_px)
    around = F.avg_pool2d(cells, _CELLS_AROUND, 1, _CELLS_AROUND // 2, count_include_pad=False)
    return F.interpolate(around, size=image.shape[-2:], mode="bilinear", align_corners=False)
