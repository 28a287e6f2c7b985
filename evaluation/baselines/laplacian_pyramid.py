"""Laplacian pyramid fusion: the classical method that is fast enough for video."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Luma8

Signed = NDArray[np.int16]

PYRAMID_LEVELS = 5


def pyramid(infrared: Luma8, visible: Luma8) -> Luma8:
    """Laplacian pyramid fusion of HxW uint8 images: the stronger detail, the mean of the base.

    Five levels, or as often as the shorter side can be halved; images of any size down to 1x1.
    Whole numbers throughout, so that decomposing loses nothing: identical images come back exactly.
    Source: Burt, Adelson, "The Laplacian pyramid as a compact image code", IEEE Trans. Communications
    31(4), 1983; fusion by the largest absolute coefficient: Burt, Kolczynski, ICCV 1993.
    """
    levels = min(PYRAMID_LEVELS, min(infrared.shape).bit_length() - 1)
    details: list[Signed] = []
    a: Signed = infrared.astype(np.int16)
    b: Signed = visible.astype(np.int16)
    for _ in range(levels):
        size = (a.shape[1], a.shape[0])
        # a decomposition is linear but for rounding, which each source gets on its own
        below_a, below_b = cv2.pyrDown(a), cv2.pyrDown(b)
        details.append(_stronger(a - cv2.pyrUp(below_a, dstsize=size), b - cv2.pyrUp(below_b, dstsize=size)))
        a, b = below_a, below_b
    fused: Signed = (a + b + 1) >> 1
    for detail in reversed(details):
        fused = cv2.pyrUp(fused, dstsize=(detail.shape[1], detail.shape[0])) + detail
    return np.clip(fused, 0, 255).astype(np.uint8)


def _stronger(a: Signed, b: Signed) -> Signed:
    """The one of larger absolute value; of equal ones the positive, whichever source it is from."""
    high, low = np.maximum(a, b), np.minimum(a, b)
    return np.where(high + low >= 0, high, low)
