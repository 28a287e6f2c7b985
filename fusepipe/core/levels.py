"""Levels of a plane: 16-bit counts to 8-bit luma, limited to full range and back.

All are look-up tables, computed once. "Full" is 0..255; "limited" is luma 16..235 and chroma 16..240
(ITU-R BT.601, BT.709). Codes outside the limited range are clipped to it. Limited -> full -> limited is
exact for every code from 16 to 235, because full has more codes than limited.
"""

from __future__ import annotations

from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.planes import Luma8, Plane

Lut = NDArray[np.uint8]


@cache
def luma_to_full() -> Lut:
    """256 entries: limited-range luma to full range, 16 -> 0, 235 -> 255."""
    codes = np.arange(256, dtype=np.float64)
    return _table((codes - 16.0) * 255.0 / 219.0)


@cache
def luma_to_limited() -> Lut:
    """256 entries: full-range luma to limited range, 0 -> 16, 255 -> 235."""
    return _table(16.0 + np.arange(256, dtype=np.float64) * 219.0 / 255.0)


@cache
def chroma_to_full() -> Lut:
    """256 entries: limited-range chroma (16..240 around 128) to full range."""
    return _table(128.0 + (np.arange(256, dtype=np.float64) - 128.0) * 255.0 / 224.0)


@lru_cache(maxsize=64)  # 64 kB each; images of a folder may each have a range of their own
def counts_to_luma(low: int, high: int) -> Lut:
    """65,536 entries: counts to full-range luma, ``low`` -> 0, ``high`` -> 255, linear, clipped."""
    counts = np.arange(65536, dtype=np.float64)
    return _table((counts - low) * 255.0 / (high - low))


def _table(values: NDArray[np.float64]) -> Lut:
    table = np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
    table.flags.writeable = False
    return table


def full_range_luma(plane: Plane, count_range: tuple[int, int] | None = None) -> Luma8:
    """HxW uint8 full-range luma of a plane; the plane's own pixels where no conversion is needed.

    Counts are mapped linearly from ``count_range`` (default: the full range of the bit depth,
    or its limited range where the plane says so), never by the content of one frame: per-frame
    stretching flickers.
    """
    pixels = plane.pixels
    if pixels.dtype == np.uint8:
        if count_range is not None:
            return np.asarray(cv2.LUT(pixels, counts_to_luma(*count_range)[:256]), dtype=np.uint8)
        if plane.value_range == "limited":
            return np.asarray(cv2.LUT(pixels, luma_to_full()), dtype=np.uint8)
        return np.asarray(pixels, dtype=np.uint8)
    low, high = count_range or default_range(plane)
    return counts_to_luma(low, high)[pixels]


def default_range(plane: Plane) -> tuple[int, int]:
    """The counts of black and white where no range is configured."""
    if plane.value_range == "limited":
        return 16 << (plane.bit_depth - 8), 235 << (plane.bit_depth - 8)
    return 0, (1 << plane.bit_depth) - 1
