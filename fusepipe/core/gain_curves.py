"""Gain curves: how the counts of an infrared camera become 8-bit luma, from one image's counts. Pure and vectorised.

A curve is a float32 array with the luma, 0..255, of every count: 65,536 entries, or 256 of 8-bit images. It rises
nowhere steeper than the camera's noise allows, so that a scene without contrast stays plain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.planes import Pixels

CurveKind = Literal["linear", "plateau"]
GainCurve = NDArray[np.float32]
Counts = NDArray[np.uint16]
Region = tuple[int, int, int, int]

SAMPLES = 10_000
CEILINGS = (4095, 16383)
"""The highest counts of cameras of 12 and 14 bits, which their files of 16 bits do not name."""
BLACK, BODY, WHITE = 4.0, 80.0, 250.0
"""Luma of the coldest of the scene, of the warm end of its bulk where hot objects need room, and of its hottest: what
is left on either side is for colder and hotter objects that enter. A higher ``BODY`` takes contrast from hot objects, a
lower one from all else: benchmarks/measure_gain_control has the figures."""
LOW, BULK, HIGH = 0.01, 0.90, 0.999
"""The quantiles of the counts that get them."""
NOISE_SPAN = 32.0
MIN_SPAN = 8.0
"""The range of luma spans this many standard deviations of the noise, and counts, at least."""
PLATEAU = 2.0  # a bin of the equalised histogram holds at most this many times the mean
LINEAR_SHARE = 0.4  # of the plateau curve: pure equalisation makes the contrast of large areas too large
BINS = 256


@dataclass(frozen=True, slots=True, eq=False)
class CountSample:
    """``counts``: sorted samples of one image, without dead pixels. ``noise``: its standard deviation, in counts."""

    counts: Counts
    noise: float

    def quantile(self, share: float) -> float:
        """The count that this share of the samples is below, 0..1."""
        return float(self.counts[round(share * (len(self.counts) - 1))])

    @property
    def flat(self) -> bool:
        """Whether it has no contrast beyond noise, as the image of a closed shutter."""
        return self.quantile(0.99) - self.quantile(0.01) <= max(2.0, 6.0 * self.noise)


def sample_counts(pixels: Pixels, bit_depth: int, region: Region | None = None) -> CountSample:
    """About ``SAMPLES`` counts of HxW uint8 or uint16, from ``region`` (x, y, width, height), cut to the image.

    The lowest and the highest count of more than 8 bits are left out where there are others: dead or saturated
    pixels and empty borders; so is the highest one of the image where cameras of fewer bits saturate there. In 8
    bits they are black and white, as the camera has clipped the scene.
    """
    if region is not None:
        x, y, width, height = region
        inside = pixels[y : y + height, x : x + width]
        pixels = inside if inside.size else pixels
    step = max(1, round((pixels.size / SAMPLES) ** 0.5))
    counts = np.asarray(pixels[::step, ::step], np.uint16).ravel()
    if bit_depth > 8:
        highest = int(counts.max())
        ceiling = highest if highest in CEILINGS else (1 << bit_depth) - 1
        alive = counts[(counts != 0) & (counts != ceiling)]
        counts = alive if alive.size else counts
    # by radix, in a third of the time
    return CountSample(np.sort(counts, kind="stable"), noise_of(pixels[:: 4 * step]))


def noise_of(pixels: Pixels) -> float:
    """Standard deviation of the noise from one sample to the next in the rows of HxW counts.

    From the median absolute second difference, which edges and dead pixels hardly change: for independent noise it is
    0.6745 * sqrt(6) standard deviations (a Gaussian's median absolute deviation; 1 + 4 + 1 variances).
    """
    if pixels.shape[1] < 3:
        return 0.0
    values = pixels[:, :-2].astype(np.int32) + pixels[:, 2:] - 2 * pixels[:, 1:-1].astype(np.int32)
    middle = np.abs(values, out=values).ravel()[:: max(1, values.size // SAMPLES)]
    return float(np.median(middle) / (0.6745 * 6.0**0.5))


def curve_of(sample: CountSample, kind: CurveKind, size: int) -> GainCurve:
    """The curve of one image's counts, ``size`` entries: linear with room for hot objects, or equalised."""
    counts, luma = _linear_knots(sample)
    first, last = (min(max(round(end), 0), size) for end in (counts[0], counts[-1] + 1))
    curve = np.zeros(size, np.float32)
    curve[last:] = 255.0
    axis = np.arange(first, last)
    curve[first:last] = np.interp(axis, counts, luma)
    if kind == "plateau":
        curve[first:last] *= np.float32(LINEAR_SHARE)
        curve[first:last] += np.float32(1.0 - LINEAR_SHARE) * np.interp(axis, *_plateau_knots(sample))
    return curve


def _span(sample: CountSample) -> tuple[float, float]:
    """The counts that become ``BLACK`` and ``WHITE``: the scene's, widened about their middle to the least span."""
    low, high = sample.quantile(LOW), sample.quantile(HIGH)
    least = max(MIN_SPAN, NOISE_SPAN * sample.noise)
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    return low, high


def _linear_knots(sample: CountSample) -> tuple[list[float], list[float]]:
    """Counts and luma of the knots: a straight line, or two where the hot objects would darken the scene's bulk.

    The bulk then keeps ``BODY`` levels as far as the noise allows.
    """
    low, high = _span(sample)
    bulk = min(max(sample.quantile(BULK), low), high)
    slope = (WHITE - BLACK) / (high - low)
    steepest = 255.0 / max(MIN_SPAN, NOISE_SPAN * sample.noise)
    level = BLACK + slope * (bulk - low)
    level = max(level, min(BODY, BLACK + steepest * (bulk - low)))
    span = high - low
    counts = [low - span / 2, low, bulk, high, high + span]
    luma = [0.0, BLACK, level, WHITE, 255.0]
    return counts, luma


def _plateau_knots(sample: CountSample) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts and luma of the cumulative histogram with its bins limited (Vickers 1996, plateau equalisation)."""
    low, high = _span(sample)
    bins = max(1, min(BINS, round(high - low)))  # of one count at least: half of narrower ones would be empty
    edges = np.linspace(low, high, bins + 1)
    below = np.searchsorted(sample.counts, edges, side="right").astype(np.float64)
    shares = np.diff(below) / max(1.0, below[-1] - below[0])
    shares = np.minimum(shares, PLATEAU / bins)
    # without a floor, bins that are empty now would give objects that enter them no contrast at all
    shares = np.maximum(shares, 0.1 / bins)
    steepest = max(MIN_SPAN, NOISE_SPAN * sample.noise)
    shares = np.minimum(shares / shares.sum(), (edges[1] - edges[0]) / steepest)
    luma = np.concatenate(([0.0], np.cumsum(shares)))
    luma = BLACK + (WHITE - BLACK) * (luma + (1.0 - luma[-1]) / 2)
    span = high - low
    return np.concatenate(([low - span / 2], edges, [high + span])), np.concatenate(([0.0], luma, [255.0]))
