"""How much of the visible colours belongs into a fused image: less where its detail comes from the infrared one.

Smoke, fog and glare give the visible image a colour but no detail; what stands behind them has the luma of the infrared
image, and their colour hides it from people and detectors. The share of the detail that the visible image explains is
measured on a small copy in wide windows, so that it changes as smoothly in space and time as the tint does. Sums are of
whole numbers and exact: the result depends neither on the machine nor on the order of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.planes import Luma8, Plane

NEUTRAL = 128  # chroma of grey
COARSE_PX = 120  # the luma is halved until it is at most this wide
WINDOW, SMOOTHING = 0.31, 0.18  # of the coarse width
NOISE = 25.0  # variance of the visible image, levels^2, that counts as detail even where there is none
FADE_FROM, FADE_TO = 0.6, 0.95  # shares of detail that the visible image does not have: all colour, no colour
_BORDER = cv2.BORDER_REFLECT
MOST_FADED = 24  # levels: strong colours are signs, lamps and clothes, not smoke


def weighted_chroma(fused: Luma8, visible: Luma8, chroma: Sequence[Plane]) -> tuple[Plane, ...]:
    """The visible ``chroma`` planes (uint8, 4:2:0 or full size), faded towards grey by at most ``MOST_FADED`` levels.

    ``fused`` and ``visible`` are HxW uint8 luma in one value range. Where they agree the planes stay as they are.
    """
    weight = colour_weight(fused, visible)
    if not chroma or weight.min() == 255:
        return tuple(chroma)
    height, width = chroma[0].pixels.shape
    kept = cv2.resize(weight, (width, height), interpolation=cv2.INTER_LINEAR)
    grey = cv2.LUT(kept, _grey_table())
    return tuple(replace(plane, pixels=_faded(np.asarray(plane.pixels, np.uint8), kept, grey)) for plane in chroma)


def colour_weight(fused: Luma8, visible: Luma8) -> Luma8:
    """How much of the colours is kept, 255 for all, as a small image of the same view.

    Of the variance in a window, ``vd`` is that of the difference and ``vv`` the visible image's: vd / (vv + vd) is the
    share of detail that the visible image does not have.
    """
    small = [_coarse(luma).astype(np.float64) for luma in (fused, visible)]
    difference = small[0] - small[1]
    side = _odd(WINDOW * difference.shape[1])
    missing, seen = _variance(difference, side), _variance(small[1], side)
    share = missing / (seen + NOISE + missing)
    kept = np.clip((FADE_TO - share) / (FADE_TO - FADE_FROM), 0, 1)
    smooth = _odd(SMOOTHING * difference.shape[1])
    levels = (kept * 255).round().astype(np.uint8)
    return np.asarray(cv2.blur(levels, (smooth, smooth), borderType=_BORDER), np.uint8)


def _coarse(luma: Luma8) -> Luma8:
    """The luma, halved until it is at most ``COARSE_PX`` wide; an odd last row or column is left out."""
    while luma.shape[1] > COARSE_PX and luma.shape[0] > 1:
        height, width = luma.shape[0] // 2, luma.shape[1] // 2
        luma = np.asarray(cv2.resize(luma[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA))
    return luma


def _odd(side: float) -> int:
    return 2 * round((side - 1) / 2) + 1


def _variance(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """The variance in square windows of whole numbers."""
    area = side * side
    total, squares = (
        cv2.boxFilter(part, cv2.CV_64F, (side, side), normalize=False, borderType=_BORDER)
        for part in (values, values * values)
    )
    return np.asarray((area * squares - total * total) / (area * area), np.float64)


def _grey_table() -> NDArray[np.uint8]:
    """What is added to a chroma of which a weight of 0 to 255 is kept."""
    return np.rint(NEUTRAL * (255 - np.arange(256)) / 255).astype(np.uint8)


def _faded(chroma: Luma8, kept: NDArray[np.uint8], grey: NDArray[np.uint8]) -> Luma8:
    """At most ``MOST_FADED`` levels from ``chroma``; neutral stays neutral, since both rounded parts sum to 128."""
    faded, bound = np.empty_like(chroma), np.empty_like(chroma)
    cv2.multiply(chroma, kept, dst=faded, scale=1 / 255)
    cv2.add(faded, grey, dst=faded)
    cv2.max(faded, cv2.subtract(chroma, MOST_FADED, dst=bound), dst=faded)
    cv2.min(faded, cv2.add(chroma, MOST_FADED, dst=bound), dst=faded)
    return faded
