"""CBF: fusion by the detail that a cross bilateral filter removes, as a pure function.

Source: Shreyamsha Kumar, "Image fusion based on pixel significance using cross bilateral filter", Signal,
Image and Video Processing 9, 2015 (online 2013).
"""

from __future__ import annotations

import numpy as np

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.luma import Real

SIGMA_PX = 1.8
SIGMA_LEVELS = 25.0
RADIUS_PX = 5
WINDOW_PX = 5

# The weight of a detail that is nothing at all, so that two of them share a pixel half and half.
NO_WEIGHT = float(np.finfo(np.float64).eps)


def cbf(infrared: Luma8, visible: Luma8) -> Luma8:
    """The mean of HxW uint8 images, weighted by how much detail each has that the other does not guide.

    Detail = image - its cross bilateral filter guided by the other image (11x11, sigma 1.8 px, 25 levels,
    borders mirrored). Weight = sum of the variances (ddof 1) of the columns and of the rows of the 5x5
    window of the detail. Rounded half up. Identical images come back exactly.
    """
    a, b = infrared.astype(np.float64), visible.astype(np.float64)
    weight_a = _strength(a - _cross_bilateral(infrared, visible))
    weight_b = _strength(b - _cross_bilateral(visible, infrared))
    fused = (a * weight_a + b * weight_b) / (weight_a + weight_b)
    return np.floor(np.clip(fused, 0.0, 255.0) + 0.5).astype(np.uint8)


def _mirrored(image: Luma8 | Real, radius_px: int) -> Real:
    """The image with a border mirrored about the outermost pixels, which are not repeated; float64."""
    border: Real = np.pad(image.astype(np.float64), radius_px, mode="reflect")
    return border


def _cross_bilateral(image: Luma8, guide: Luma8) -> Real:
    """The image filtered with weights of distance and of the guide's grey-level differences."""
    height, width = image.shape
    pixels, guides = _mirrored(image, RADIUS_PX), guide.astype(np.int16)
    around = np.pad(guides, RADIUS_PX, mode="reflect")
    levels = np.arange(256, dtype=np.float64)
    similarity = np.exp(-(levels * levels) / (2.0 * SIGMA_LEVELS**2))
    total, weights = np.zeros((height, width)), np.zeros((height, width))
    for dy in range(2 * RADIUS_PX + 1):
        for dx in range(2 * RADIUS_PX + 1):
            distance = (dy - RADIUS_PX) ** 2 + (dx - RADIUS_PX) ** 2
            window = np.s_[dy : dy + height, dx : dx + width]
            weight = similarity.take(np.abs(around[window] - guides))
            weight *= np.exp(-distance / (2.0 * SIGMA_PX**2))
            weights += weight
            weight *= pixels[window]
            total += weight
    filtered: Real = total / weights
    return filtered


def _strength(detail: Real) -> Real:
    """Column variances plus row variances (ddof 1) of the 5x5 window about each pixel."""
    reach = WINDOW_PX // 2
    around = _mirrored(detail, reach)
    height, width = detail.shape
    strength = np.zeros_like(detail)
    for axis in (0, 1):
        # variance along one axis at each pixel of the padded image, then summed along the other
        rows = [np.take(around, range(k, k + (height, width)[axis]), axis=axis) for k in range(WINDOW_PX)]
        mean = sum(rows) / WINDOW_PX
        variance = sum((row - mean) ** 2 for row in rows) / (WINDOW_PX - 1)
        other = 1 - axis
        strength += sum(np.take(variance, range(k, k + (height, width)[other]), axis=other) for k in range(WINDOW_PX))
    return np.where(strength > 0, strength, NO_WEIGHT)
