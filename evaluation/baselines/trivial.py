"""The trivial rules: each wins some metric without fusing anything, so that no comparison is shown without them."""

from __future__ import annotations

import numpy as np

from fusepipe.core.frames import Luma8

TRIVIAL_RULES = ("mean", "max", "sum")


def mean(infrared: Luma8, visible: Luma8) -> Luma8:
    """(a + b + 1) // 2 of HxW uint8 images: the mean, halves rounded up."""
    # the two's common bits plus half of the others, without leaving uint8
    return (infrared | visible) - ((infrared ^ visible) >> 1)


def maximum(infrared: Luma8, visible: Luma8) -> Luma8:
    """The brighter of HxW uint8 images, pixel by pixel."""
    return np.maximum(infrared, visible)


def sum_rule(infrared: Luma8, visible: Luma8) -> Luma8:
    """ir + vis - mean of both, rounded and clipped to 0..255, of HxW uint8 images.

    The mean is one number, that of all pixels of both images. It wins SCD with nearly 2 without being a
    fusion method: a row of tables, not a model.
    """
    total = infrared.astype(np.float64) + visible
    fused: Luma8 = np.clip(np.rint(total - total.mean() / 2.0), 0, 255).astype(np.uint8)
    return fused
