"""Image files whose values are not 8- or 16-bit counts: degrees in floating point, signed counts."""

from __future__ import annotations

import numpy as np

from fusepipe.core.counts import MAX_COUNT
from fusepipe.core.frames import Pixels
from fusepipe.core.radiometry import Radiometry

DEGREE_STEP_K = 0.02
"""Temperatures of one count where degrees become counts without a range: 0 to 1310.7 K."""


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
    if not finite.size:
        raise UnmappedValues("none of its values is a finite number")
    low, high = float(finite.min()), float(finite.max())
    if np.issubdtype(pixels.dtype, np.integer) and low >= 0 and high <= MAX_COUNT:
        return pixels.astype(np.uint16)
    black = np.floor(low)
    shown = f"{black:g} {max(np.ceil(high), black + 1):g}"
    raise UnmappedValues(
        f"its values are {pixels.dtype}, {low:g} to {high:g}; set those of black and white, such as "
        f"range: [{shown.replace(' ', ', ')}] (fuse --range {shown})"
    )


def degree_range(radiometry: Radiometry) -> tuple[float, float]:
    """The ``value_range`` that maps values which are temperatures by ``radiometry`` to counts of ``DEGREE_STEP_K``."""
    low, high = (float(radiometry.counts(kelvin)) for kelvin in (0.0, MAX_COUNT * DEGREE_STEP_K))
    return low, high


def mapped_radiometry(radiometry: Radiometry, value_range: tuple[float, float] | None) -> Radiometry:
    """What counts measure that :func:`map_values` made of values which measure ``radiometry``; linear ones only.

    Without a ``value_range`` that is their :func:`degree_range`.
    """
    if value_range is None:
        return Radiometry("kelvin", DEGREE_STEP_K)
    low, high = value_range
    step = (high - low) / MAX_COUNT
    return Radiometry(radiometry.unit, radiometry.gain * step, radiometry.gain * low + radiometry.offset)
