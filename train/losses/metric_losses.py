"""Differentiable approximations of fusion metrics as loss terms.

All images are N x 1 x H x W float tensors in [0, 1]; each function returns one value per image (N), as the
metric of that name in ``fusepipe.evaluation.metrics.registry`` would, higher being better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fusepipe.train.losses.windows import window_mean

_VIF_WINDOWS_PX = (11, 7, 3, 3)  # boxes as wide as the metric's Gaussians: N/5 of 17, 9, 5, 3
_VIF_NOISE = 2.0 / 255**2
_MI_BINS = 64


def visual_information(source: Tensor, fused: Tensor) -> Tensor:
    """Pixel-domain VIF of one source (Sheikh and Bovik 2006), box windows in place of Gaussians.

    A source without any structure gives 0. Within 3 % of the metric on photographs.
    """
    kept = source.new_zeros(source.shape[0])
    there = source.new_zeros(source.shape[0])
    for scale, window in enumerate(_VIF_WINDOWS_PX):
        if scale:
            source, fused = F.avg_pool2d(source, 2), F.avg_pool2d(fused, 2)
        mean_s, mean_f = window_mean(source, window), window_mean(fused, window)
        var_s = (window_mean(source * source, window) - mean_s * mean_s).clamp_min(0)
        var_f = (window_mean(fused * fused, window) - mean_f * mean_f).clamp_min(0)
        covariance = window_mean(source * fused, window) - mean_s * mean_f
        gain = (covariance / (var_s + 1e-10)).clamp_min(0)
        rest = (var_f - gain * covariance).clamp_min(1e-10)
        kept = kept + torch.log1p(gain * gain * var_s / (rest + _VIF_NOISE)).sum(dim=(1, 2, 3))
        there = there + torch.log1p(var_s / _VIF_NOISE).sum(dim=(1, 2, 3))
    return kept / (there + 1.0)


def _sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    rows = image[..., :-2, :] + 2 * image[..., 1:-1, :] + image[..., 2:, :]
    columns = image[..., :-2] + 2 * image[..., 1:-1] + image[..., 2:]
    return rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :]


def edge_preservation(infrared: Tensor, visible: Tensor, fused: Tensor) -> Tensor:
    """Q^AB/F (Xydeas and Petrovic 2000), common variant; orientation through the angle between the gradients."""
    fused_x, fused_y = _sobel(fused)
    size_f = torch.sqrt(fused_x**2 + fused_y**2 + 1e-8)
    kept, weight = fused.new_zeros(fused.shape[0]), fused.new_zeros(fused.shape[0])
    for source in (infrared, visible):
        x, y = _sobel(source)
        size = torch.sqrt(x**2 + y**2 + 1e-8)
        strength = torch.minimum(size, size_f) / torch.maximum(size, size_f)
        # below 1, where the slope of acos is finite
        cosine = ((x * fused_x + y * fused_y).abs() / (size * size_f)).clamp(max=1 - 1e-4)
        angle = 1 - torch.acos(cosine) / (math.pi / 2)
        quality = 0.9994 * torch.sigmoid(15 * (strength - 0.5)) * 0.9879 * torch.sigmoid(22 * (angle - 0.8))
        kept = kept + (quality * size).sum(dim=(1, 2, 3))
        weight = weight + size.sum(dim=(1, 2, 3))
    return kept / (weight + 1e-4)


def soft_mutual_information(source: Tensor, fused: Tensor) -> Tensor:
    """Mutual information in bits from a joint histogram of 64 x 64 bins.

    Each pixel is shared linearly between the four nearest cells (the first-order B-spline of Maes et al. 1997),
    which is what makes the histogram differentiable. Lower than the metric with its 256 bins.
    """

    def cells(image: Tensor) -> tuple[Tensor, Tensor]:
        # Clamped: beyond the bins the shares would be negative.
        position = image.flatten(1).clamp(0, 1) * (_MI_BINS - 1)
        below = position.detach().nan_to_num().floor().clamp(0, _MI_BINS - 2)  # a NaN stays one in the shares
        return below.long(), position - below

    cell_s, part_s = cells(source)
    cell_f, part_f = cells(fused)
    joint = source.new_zeros(source.shape[0], _MI_BINS * _MI_BINS)
    for step_s, share_s in ((0, 1 - part_s), (1, part_s)):
        for step_f, share_f in ((0, 1 - part_f), (1, part_f)):
            joint = joint.scatter_add(1, (cell_s + step_s) * _MI_BINS + cell_f + step_f, share_s * share_f)
    joint = (joint / joint.sum(dim=1, keepdim=True)).view(-1, _MI_BINS, _MI_BINS)
    single = torch.log2(joint.sum(dim=2, keepdim=True) + 1e-9) + torch.log2(joint.sum(dim=1, keepdim=True) + 1e-9)
    return (joint * (torch.log2(joint + 1e-9) - single)).sum(dim=(1, 2))
