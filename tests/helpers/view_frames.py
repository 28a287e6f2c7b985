"""Fused frames for the tests of views: visible 50, fused 120 everywhere, infrared a ramp from left to right."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Band, Frame, FramePair, FusedFrame, PairState, Plane, ValueRange, Warp

HEIGHT, WIDTH = 48, 64
VISIBLE, FUSED = 50, 120
COLOUR = (90, 160)  # Cb, Cr of the visible image
RAMP = np.tile(np.arange(WIDTH, dtype=np.uint8) * 4, (HEIGHT, 1))


def fused_frame(
    *,
    infrared: NDArray[np.uint8] | None = RAMP,
    visible: bool = True,
    limited: bool = False,
    chroma: bool = True,
    warp: Warp | None = None,
    fused: int = FUSED,
) -> FusedFrame:
    """A pair of the size of ``infrared``, by default 64x48; ``visible`` and ``chroma``: whether there are any."""
    value_range: ValueRange = "limited" if limited else "full"
    height, width = RAMP.shape if infrared is None else infrared.shape
    half = ((height + 1) // 2, (width + 1) // 2)
    colours = tuple(Plane(np.full(half, level, np.uint8), 8, value_range) for level in COLOUR) if chroma else ()
    luma = {level: Plane(np.full((height, width), level, np.uint8), 8, value_range) for level in (VISIBLE, fused)}
    at = (0, 0, 0, Fraction(1, 1000))
    seen = Frame(Band.VISIBLE, (luma[VISIBLE], *colours), *at) if visible else None
    warm = None if infrared is None else Frame(Band.INFRARED, (Plane(infrared),), *at)
    registered = None if warm is None else warm.luma
    pair = FramePair(0, PairState.FUSED, Band.VISIBLE, warm, seen, 0, luma=registered, registered=registered, warp=warp)
    return FusedFrame(pair, (luma[fused], *colours), PairState.FUSED, 0, *at[1:])
