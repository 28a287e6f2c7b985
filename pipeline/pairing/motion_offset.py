"""The constant time offset between two cameras, from motion that both of them see. Pure.

For each camera the *motion energy*, the mean absolute difference of successive downscaled frames, is a function of
time; the offset is the lag with the highest normalised cross-correlation on a common grid. This requires motion that
starts, stops or changes speed; a static scene, or uniform motion, gives no estimate. The same in the upper and in the
lower part of the images gives the difference of the cameras' rolling shutters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Frame

GRID_NS = 5_000_000
MAX_OFFSET_NS = 2_000_000_000
MIN_SPAN_NS = 5_000_000_000
SMALL = (80, 60)
MIN_CORRELATION = 0.5  # of a trusted offset
PEAK_RATIO = 1.15  # min ratio of the highest to any other peak of a trusted offset
MAX_UNCERTAINTY_NS = 40_000_000  # of a sure offset: a frame of 25 a second
PART_NS, MIN_PARTS, RESAMPLES = 1_000_000_000, 5, 60  # of the bootstrap of the uncertainty
NEIGHBOURS = 60  # grid steps to each side of the peak that it looks at
PART = 0.4  # of the rows, at the top and at the bottom, whose offsets are compared for a rolling shutter
PEAK_RADIUS = 20  # grid steps within which another maximum belongs to the same, noisy peak

Samples = Sequence[tuple[int, float]]  # (capture time in ns, motion energy)


@dataclass(frozen=True, slots=True)
class MotionOffset:
    """``offset_ns`` is to be added to infrared times; ``correlation`` (-1..1) is the one at that offset.

    ``uncertainty_ns`` is two standard deviations, over resampled parts of the recordings. ``trusted``: the highest peak
    of the correlation is high enough, and clearly higher than any other.
    """

    offset_ns: int
    correlation: float
    trusted: bool
    uncertainty_ns: int = 0

    @property
    def sure(self) -> bool:
        """Whether it is trusted, and the parts of the recordings agree on it."""
        return self.trusted and self.uncertainty_ns <= MAX_UNCERTAINTY_NS


@dataclass(frozen=True, slots=True)
class ShutterSkew:
    """``skew_ns``: how much longer the visible camera takes to read an image out, from the first row to the last.

    Below 0 it is the infrared camera that takes longer. ``correlation`` is the lower of both parts of the image.
    """

    skew_ns: int
    correlation: float


class MotionEnergy:
    """Collects one camera's motion energy; capture times of both cameras have to be on one clock.

    ``samples`` are of the whole image, ``top`` and ``bottom`` of its upper and its lower ``PART`` of rows.
    """

    def __init__(self) -> None:
        self.samples: list[tuple[int, float]] = []
        self.top: list[tuple[int, float]] = []
        self.bottom: list[tuple[int, float]] = []
        self._last: NDArray[np.float32] | None = None
        self._last_ns = 0

    @property
    def span_ns(self) -> int:
        """From the first to the last sample."""
        return self.samples[-1][0] - self.samples[0][0] if self.samples else 0

    def push(self, frame: Frame) -> None:
        small = np.asarray(cv2.resize(frame.luma.pixels, SMALL, interpolation=cv2.INTER_AREA), np.float32)
        if self._last is not None and self._last.shape == small.shape:
            middle_ns = (self._last_ns + frame.capture_ns) // 2  # the motion happened between the two
            rows = np.abs(small - self._last).mean(axis=1)
            part = round(len(rows) * PART)
            self.samples.append((middle_ns, float(rows.mean())))
            self.top.append((middle_ns, float(rows[:part].mean())))
            self.bottom.append((middle_ns, float(rows[-part:].mean())))
        self._last, self._last_ns = small, frame.capture_ns


def estimate_offset(infrared: Samples, visible: Samples) -> MotionOffset | None:
    """The offset with the highest correlation, within ``MAX_OFFSET_NS``; ``None`` for less than ``MIN_SPAN_NS``."""
    if len(infrared) < 2 or len(visible) < 2:
        return None
    start_ns = max(infrared[0][0], visible[0][0])
    end_ns = min(infrared[-1][0], visible[-1][0])
    if end_ns - start_ns < MIN_SPAN_NS:
        return None
    grid = np.arange(start_ns, end_ns, GRID_NS, dtype=np.float64)
    a, b = (_on_grid(samples, grid) for samples in (infrared, visible))
    lags = MAX_OFFSET_NS // GRID_NS
    scores = np.array([_correlation(a, b, lag) for lag in range(-lags, lags + 1)])
    best = int(np.argmax(scores))
    # slow motion has a broad peak: compare it with other peaks, not with its own flanks
    inner = scores[1:-1]
    is_peak = np.concatenate([[False], (inner >= scores[:-2]) & (inner > scores[2:]), [False]])
    is_peak[max(0, best - PEAK_RADIUS) : best + PEAK_RADIUS + 1] = False
    second = float(scores[is_peak].max()) if is_peak.any() else 0.0
    peak = float(scores[best])
    trusted = peak >= MIN_CORRELATION and peak >= PEAK_RATIO * max(second, 0.0) and 0 < best < len(scores) - 1
    offset_ns = round((best - lags + _subsample(scores, best)) * GRID_NS)
    uncertainty_ns = _uncertainty_ns(a, b, best - lags) if trusted else MAX_OFFSET_NS
    return MotionOffset(offset_ns, round(peak, 3), trusted, uncertainty_ns)


def _uncertainty_ns(a: NDArray[np.float64], b: NDArray[np.float64], lag: int) -> int:
    """Two standard deviations of the lag's peak, when parts of ``PART_NS`` are drawn with replacement (bootstrap).

    B. Efron, "Bootstrap methods: another look at the jackknife", 1979; whole parts, since neighbouring samples depend
    on each other.
    """
    first, end = max(0, -lag) + NEIGHBOURS, min(len(a), len(b) - lag) - NEIGHBOURS
    count = max(MIN_PARTS, (end - first) // (PART_NS // GRID_NS))
    length = (end - first) // count
    if length < 1:
        return MAX_OFFSET_NS
    mine = a[first : first + count * length]
    mine = mine - mine.mean()
    own = mine.reshape(count, length)
    sums = np.empty((2 * NEIGHBOURS + 1, count, 3))
    for row, move in enumerate(range(-NEIGHBOURS, NEIGHBOURS + 1)):
        there = b[first + lag + move : first + lag + move + count * length].reshape(count, length)
        sums[row] = np.stack([(own * there).sum(axis=1), there.sum(axis=1), (there * there).sum(axis=1)], axis=1)
    found = []
    for parts in np.random.default_rng(0).integers(0, count, (RESAMPLES, count)):
        product, other, others = sums[:, parts].sum(axis=1).T
        spread = np.maximum(others - other * other / (count * length), 1e-12)
        # the infrared parts that were drawn are the same at each lag: their spread does not move the peak
        scores = (product - own[parts].sum() * other / (count * length)) / np.sqrt(spread)
        best = int(np.argmax(scores))
        found.append((best + _subsample(scores, best)) * GRID_NS)
    return round(2 * float(np.std(found)))


def estimate_skew(infrared: MotionEnergy, visible: MotionEnergy) -> ShutterSkew | None:
    """The difference of the cameras' rolling shutters; ``None`` without motion in both parts of the images.

    A camera that reads its rows one after another shows motion in the lower ones in an earlier frame. The offset
    between the cameras then differs between the parts, whose middles are ``1 - PART`` of the height apart.
    """
    top, bottom = estimate_offset(infrared.top, visible.top), estimate_offset(infrared.bottom, visible.bottom)
    if top is None or bottom is None or not (top.trusted and bottom.trusted):
        return None
    skew_ns = round((top.offset_ns - bottom.offset_ns) / (1 - PART))
    return ShutterSkew(skew_ns, min(top.correlation, bottom.correlation))


def _on_grid(samples: Samples, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    times = np.array([t for t, _ in samples], np.float64)
    # logarithm: a hot or large object must not outweigh the rest
    energy = np.log1p(np.array([e for _, e in samples], np.float64))
    return np.interp(grid, times, energy)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64], lag: int) -> float:
    """Pearson correlation of ``a`` (infrared), delayed by ``lag`` grid steps, and ``b``."""
    if lag >= 0:
        left, right = a[: len(a) - lag], b[lag:]
    else:
        left, right = a[-lag:], b[: len(b) + lag]
    left, right = left - left.mean(), right - right.mean()
    scale = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / scale if scale > 0 else 0.0


def _subsample(scores: NDArray[np.float64], best: int) -> float:
    """The vertex of the parabola through the best score and its neighbours, -0.5..0.5 grid steps."""
    if not 0 < best < len(scores) - 1:
        return 0.0
    low, mid, high = (float(s) for s in scores[best - 1 : best + 2])
    bend = low - 2 * mid + high
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, (low - high) / (2 * bend)))
