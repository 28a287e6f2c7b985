"""Image files whose values are not 8- or 16-bit counts: degrees in floating point, signed counts."""

from __future__ import annotations

import numpy as np

from fusepipe.core.counts import MAX_COUNT
from fusepipe.core.frames import Pixels


class UnmappedValues(ValueError):  # noqa: N818 - a property of the image
    """The values cannot become counts without a range; the argument says which they are and how to give one."""


def are_counts(pixels: Pixels) -> bool:
    """Whether the values of a decoded image are 8- or 16-bit counts."""
    return pixels.dtype in (np.uint8, np.uint16)


def map_values(pixels: Pixels, value_range: tuple[float, float] | None) -> Pixels:
    """uint16 counts of an image of signed integers or floating point, HxW or HxWx3.

    ``value_range``, the values of black and white, is mapped linearly to 0..65535; values outside and NaN are clipped.
    Without one, whole numbers that are counts remain so; raises :class:`UnmappedValues` for all others.
    """
    if value_range is not None:
        low, high = value_range
        scaled = (pixels.astype(np.float64) - low) * (MAX_COUNT / (high - low))
        return np.rint(np.clip(np.nan_to_num(scaled), 0, MAX_COUNT)).astype(np.uint16)
    finite = pixels[np.isfinite(pixels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if np.issubdtype(pixels.dtype, np.integer) and low >= 0 and high <= MAX_COUNT:
        return pixels.astype(np.uint16)
    shown = f"{np.floor(low):g} {np.ceil(high):g}"
    raise UnmappedValues(
        f"its values are {pixels.dtype}, {low:g} to {high:g}; set those of black and white, such as "
        f"range: [{shown.replace(' ', ', ')}] (fuse --range {shown})"
    )
