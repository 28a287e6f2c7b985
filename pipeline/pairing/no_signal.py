"""The slate that is shown while no camera delivers. Pure."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from fusepipe.core.frames import Band, Frame, Plane


def no_signal_slate(last: Frame | None, size: tuple[int, int], capture_ns: int, now_ns: int) -> Frame:
    """The last visible frame at a quarter of its brightness, or a black frame of ``size`` (width, height).

    It has the value range of the last frame, or full range without one; ``now_ns`` becomes its arrival time.
    """
    if last is not None:
        luma = last.luma
        black = 16 if luma.value_range == "limited" else 0
        dark = (luma.pixels.astype(np.uint16) + 3 * black) // 4
        planes = (Plane(dark.astype(np.uint8), 8, luma.value_range), *last.chroma)
        return replace(last, planes=planes, capture_ns=capture_ns, arrival_ns=now_ns, stamp=None)
    width, height = size
    neutral = Plane(np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8))
    return Frame(
        band=Band.VISIBLE,
        planes=(Plane(np.zeros((height, width), np.uint8)), neutral, neutral),
        index=0,
        capture_ns=capture_ns,
        pts=capture_ns,
        time_base=Fraction(1, 1_000_000_000),
        arrival_ns=now_ns,
    )
