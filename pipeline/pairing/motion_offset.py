"""The constant time offset between two cameras, from motion that both of them see. Pure.

For each camera the *motion energy*, the mean absolute difference of successive downscaled frames, is a function of
time; the offset is the lag with the highest normalised cross-correlation on a common grid. This requires motion that
starts, stops or changes speed; a static scene, or uniform motion, gives no estimate. Motion that goes on in the image
all the time, but not in one place, is seen by cells: the energy of each part of the scene, once the map between the
cameras is known. The same in the upper and in the lower part of the images gives the difference of the cameras' rolling
shutters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Frame

GRID_NS = 5_000_000
MAX_OFFSET_NS = 2_000_000_000
MIN_SPAN_NS = 4_000_000_000
SMALL = (80, 60)
SMOOTH_NS = 50_000_000  # standard deviation of the smoothing: a camera that repeats frames has no motion in every other
FINE = (32, 24)  # parts of an image whose energies are kept, whatever its shape
CELLS = (12, 9)  # of the visible image, in which the energies of both are compared
MIN_CELLS = 12  # that the infrared camera sees
MIN_CORRELATION = 0.5  # of a trusted offset
MIN_CELL_CORRELATION = 0.3  # of one by cells, whose noise is independent
PEAK_RATIO = 1.15  # min ratio of the highest to any other peak of a trusted offset
CELL_PEAK_RATIO = 1.5  # and of one by cells
MAX_SPREAD_NS = 40_000_000  # of a sure offset: a frame of 25 a second
REPEATED, MIN_REPEATED = 0.6, 0.3  # of the motion before and after a frame that repeats the last; share of such samples
PART_NS, MIN_PARTS, RESAMPLES = 1_000_000_000, 5, 60  # of the bootstrap of the uncertainty
NEIGHBOURS = 60  # grid steps to each side of the peak that it looks at
PART = 0.4  # of the rows, at the top and at the bottom, whose offsets are compared for a rolling shutter
PEAK_RADIUS = 20  # grid steps within which another maximum belongs to the same, noisy peak

Samples = Sequence[tuple[int, float]]  # (capture time in ns, motion energy)
Series = NDArray[np.float64]  # times x cells


@dataclass(frozen=True, slots=True)
class MotionOffset:
    """``offset_ns`` is to be added to infrared times; ``correlation`` (-1..1) is the one at that offset.

    ``uncertainty_ns`` is ``spread_ns``, two standard deviations over resampled parts of the recordings, and half of the
    time for which a camera shows a frame: recordings do not say when in it the frame was taken. ``trusted``:
    the highest peak of the correlation is high enough, and clearly higher than any other.
    """

    offset_ns: int
    correlation: float
    trusted: bool
    uncertainty_ns: int = 0
    spread_ns: int = 0

    @property
    def sure(self) -> bool:
        """Whether it is trusted, and the parts of the recordings agree on it."""
        return self.trusted and self.spread_ns <= MAX_SPREAD_NS


@dataclass(frozen=True, slots=True)
class ShutterSkew:
    """``skew_ns``: how much longer the visible camera takes to read an image out, from the first row to the last.

    Below 0 it is the infrared camera that takes longer. ``correlation`` is the lower of both parts of the image.
    """

    skew_ns: int
    correlation: float


class MotionEnergy:
    """Collects one camera's motion energy; capture times of both cameras have to be on one clock.

    ``samples`` are of the whole image, ``top`` and ``bottom`` of its upper and its lower ``PART`` of rows; ``fine``
    has ``FINE`` parts for each of the samples, rows x columns float16.
    """

    def __init__(self) -> None:
        self.samples: list[tuple[int, float]] = []
        self.top: list[tuple[int, float]] = []
        self.bottom: list[tuple[int, float]] = []
        self.fine: list[NDArray[np.float16]] = []
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
            moved = np.abs(small - self._last)
            rows = moved.mean(axis=1)
            part = round(len(rows) * PART)
            self.samples.append((middle_ns, float(rows.mean())))
            self.top.append((middle_ns, float(rows[:part].mean())))
            self.bottom.append((middle_ns, float(rows[-part:].mean())))
            self.fine.append(cv2.resize(moved, FINE, interpolation=cv2.INTER_AREA).astype(np.float16))
        self._last, self._last_ns = small, frame.capture_ns


def offset_by_cells(infrared: MotionEnergy, visible: MotionEnergy, matrix: NDArray[np.float64]) -> MotionOffset | None:
    """The offset by the motion in each part of the scene, as of :func:`estimate_offset`.

    ``matrix`` is 3x3, from fractions (x, y) of the infrared image to fractions of the visible one: where the two are
    not compared at the same place, what moves through the scene is seen too early or too late. ``None`` also where the
    infrared camera sees less than ``MIN_CELLS`` cells.
    """
    grid = _grid(infrared.samples, visible.samples)
    sides = np.diag([*FINE, 1.0])
    centred = np.array([[1.0, 0.0, -0.5], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]])  # pixels count from their centre
    pixels = centred @ sides @ matrix @ np.linalg.inv(centred @ sides)
    seen = _cells(cv2.warpPerspective(np.ones(FINE[::-1], np.float32), pixels, FINE)) > 0.9
    if not len(grid) or int(seen.sum()) < MIN_CELLS:
        return None
    warped = [_cells(cv2.warpPerspective(part.astype(np.float32), pixels, FINE))[seen] for part in infrared.fine]
    own = [_cells(part.astype(np.float32))[seen] for part in visible.fine]
    # less their mean: a key frame, a flicker or a gain that changes is seen by all of them
    one, other = (_on_grid(*series, grid) for series in ((infrared.samples, warped), (visible.samples, own)))
    one, other = (series - series.mean(axis=1, keepdims=True) for series in (one, other))
    found = _offset(one, other, MIN_CELL_CORRELATION, CELL_PEAK_RATIO)
    return _of_whole_frames(found, infrared.samples, visible.samples)


def _cells(parts: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(parts, CELLS, interpolation=cv2.INTER_AREA), np.float32).ravel()


def estimate_offset(infrared: Samples, visible: Samples) -> MotionOffset | None:
    """The offset with the highest correlation, within ``MAX_OFFSET_NS``; ``None`` for less than ``MIN_SPAN_NS``."""
    grid = _grid(infrared, visible)
    if not len(grid):
        return None
    series = [_on_grid(samples, [np.array([energy]) for _, energy in samples], grid) for samples in (infrared, visible)]
    return _of_whole_frames(_offset(series[0], series[1], MIN_CORRELATION, PEAK_RATIO), infrared, visible)


def _of_whole_frames(found: MotionOffset, infrared: Samples, visible: Samples) -> MotionOffset:
    """With the uncertainty of the frames' own times, and of what a camera shows twice taken when it is shown first.

    Such a camera's motion is that of two intervals up to a new frame: its middle is half an interval earlier than that
    of the last interval, where the sample is.
    """
    intervals_ns = [float(np.median(np.diff([t for t, _ in samples]))) for samples in (infrared, visible)]
    repeats = [repeats_frames(samples) for samples in (infrared, visible)]
    late_ns = [interval_ns / 2 * again for interval_ns, again in zip(intervals_ns, repeats, strict=True)]
    half_ns = max(min(intervals_ns) / 2, *(2 * one for one in late_ns))
    return replace(
        found,
        offset_ns=round(found.offset_ns + late_ns[0] - late_ns[1]),
        uncertainty_ns=round(math.hypot(found.spread_ns, half_ns)),
    )


def repeats_frames(samples: Samples) -> bool:
    """Whether a camera delivers each frame twice, as one of 15 frames a second in a recording of 30.

    Every other sample then has little motion: that of noise and compression.
    """
    energies = np.array([energy for _, energy in samples], np.float64)
    repeated = energies[1:-1] < REPEATED * np.minimum(energies[:-2], energies[2:])
    return bool(repeated.sum() >= max(1, MIN_REPEATED * len(energies)))


def _grid(infrared: Samples, visible: Samples) -> NDArray[np.float64]:
    """The common times in steps of ``GRID_NS``; none for less than ``MIN_SPAN_NS``."""
    if len(infrared) < 2 or len(visible) < 2:
        return np.empty(0)
    start_ns = max(infrared[0][0], visible[0][0])
    end_ns = min(infrared[-1][0], visible[-1][0])
    return np.arange(start_ns, end_ns if end_ns - start_ns >= MIN_SPAN_NS else start_ns, GRID_NS, dtype=np.float64)


def _offset(a: Series, b: Series, min_correlation: float, peak_ratio: float) -> MotionOffset:
    lags = MAX_OFFSET_NS // GRID_NS
    scores = _correlations(a, b, lags)
    best = int(np.argmax(scores))
    # slow motion has a broad peak: compare it with other peaks, not with its own flanks
    inner = scores[1:-1]
    is_peak = np.concatenate([[False], (inner >= scores[:-2]) & (inner > scores[2:]), [False]])
    is_peak[max(0, best - PEAK_RADIUS) : best + PEAK_RADIUS + 1] = False
    second = float(scores[is_peak].max()) if is_peak.any() else 0.0
    peak = float(scores[best])
    trusted = peak >= min_correlation and peak >= peak_ratio * max(second, 0.0) and 0 < best < len(scores) - 1
    offset_ns = round((best - lags + _subsample(scores, best)) * GRID_NS)
    spread_ns = _spread_ns(a, b, best - lags) if trusted else MAX_OFFSET_NS
    return MotionOffset(offset_ns, round(peak, 3), trusted, spread_ns, spread_ns)


def _spread_ns(a: Series, b: Series, lag: int) -> int:
    """Two standard deviations of the lag's peak, when parts of ``PART_NS`` are drawn with replacement (bootstrap).

    B. Efron, "Bootstrap methods: another look at the jackknife", 1979; whole parts, since neighbouring samples depend
    on each other.
    """
    first, end = max(0, -lag) + NEIGHBOURS, min(len(a), len(b) - lag) - NEIGHBOURS
    count = max(MIN_PARTS, (end - first) // (PART_NS // GRID_NS))
    length = (end - first) // count
    if length < 1:
        return MAX_OFFSET_NS
    own = a[first : first + count * length]
    own = own - own.mean(axis=0)
    sums = np.empty((2 * NEIGHBOURS + 1, count, 2))
    for row, move in enumerate(range(-NEIGHBOURS, NEIGHBOURS + 1)):
        there = b[first + lag + move : first + lag + move + count * length]
        there = there - there.mean(axis=0)
        both = np.stack([(own * there).sum(axis=1), (there * there).sum(axis=1)], axis=1)
        sums[row] = both.reshape(count, length, 2).sum(axis=1)
    found = []
    for parts in np.random.default_rng(0).integers(0, count, (RESAMPLES, count)):
        # the infrared parts that were drawn are the same at each lag: their spread does not move the peak
        product, others = sums[:, parts].sum(axis=1).T
        scores = product / np.sqrt(np.maximum(others, 1e-12))
        best = int(np.argmax(scores))
        found.append((best + _subsample(scores, best)) * GRID_NS)
    return round(2 * float(np.std(found)))


def estimate_skew(infrared: MotionEnergy, visible: MotionEnergy) -> ShutterSkew | None:
    """The difference of the cameras' rolling shutters; ``None`` without motion that tells the time in both parts of the
    images and in the whole.

    A camera that reads its rows one after another shows motion in the lower ones in an earlier frame. The offset
    between the cameras then differs between the parts, whose middles are ``1 - PART`` of the height apart.
    """
    top, bottom = estimate_offset(infrared.top, visible.top), estimate_offset(infrared.bottom, visible.bottom)
    if top is None or bottom is None or not (top.trusted and bottom.trusted):
        return None
    whole = estimate_offset(infrared.samples, visible.samples)
    if whole is None or not whole.sure:  # what repeats itself, as a swinging thing does, agrees at several offsets
        return None
    skew_ns = round((top.offset_ns - bottom.offset_ns) / (1 - PART))
    return ShutterSkew(skew_ns, min(top.correlation, bottom.correlation))


def _on_grid(samples: Samples, energies: Sequence[NDArray[Any]], grid: NDArray[np.float64]) -> Series:
    """The energies at the times of samples, times x cells, smoothed."""
    times = np.array([t for t, _ in samples], np.float64)
    # logarithm: a hot or large object must not outweigh the rest
    planes = np.log1p(np.array(energies, np.float64)).T
    series = np.stack([np.interp(grid, times, plane) for plane in planes], axis=1)
    return np.asarray(cv2.GaussianBlur(series, (1, 0), 1.0, sigmaY=SMOOTH_NS / GRID_NS), np.float64)


def _correlations(a: Series, b: Series, lags: int) -> NDArray[np.float64]:
    """2 * lags + 1 Pearson correlations of ``a`` (infrared), delayed by -lags..lags steps, and ``b``, over all cells.

    Each cell about its own mean in the time that is common at a lag. By FFT: minutes take less than a second.
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    count = len(a)
    moves = np.arange(-lags, lags + 1)
    length = 1 << (count + lags).bit_length()
    spectrum = np.zeros(length // 2 + 1, np.complex128)
    sums = np.zeros((3, len(moves)))  # of means, and of squares about the mean of each camera
    ends = (
        np.maximum(-moves, 0),
        np.minimum(count - moves, count),
        np.maximum(moves, 0),
        np.minimum(count, count + moves),
    )
    common = np.maximum(ends[1] - ends[0], 1)
    for one, other in zip(a.T, b.T, strict=True):
        spectrum += np.conj(np.fft.rfft(one, length)) * np.fft.rfft(other, length)
        mine, theirs = (np.concatenate([[0.0], np.cumsum(x)]) for x in (one, other))
        mean, there = mine[ends[1]] - mine[ends[0]], theirs[ends[3]] - theirs[ends[2]]
        own, others = (np.concatenate([[0.0], np.cumsum(x * x)]) for x in (one, other))
        sums += (
            mean * there / common,
            own[ends[1]] - own[ends[0]] - mean * mean / common,
            others[ends[3]] - others[ends[2]] - there * there / common,
        )
    product = np.fft.irfft(spectrum, length)[moves] - sums[0]
    scale = np.sqrt(np.maximum(sums[1] * sums[2], 0.0))
    return np.where(scale > 1e-9, product / np.maximum(scale, 1e-9), 0.0)


def _subsample(scores: NDArray[np.float64], best: int) -> float:
    """The vertex of the parabola through the best score and its neighbours, -0.5..0.5 grid steps."""
    if not 0 < best < len(scores) - 1:
        return 0.0
    low, mid, high = (float(s) for s in scores[best - 1 : best + 2])
    bend = low - 2 * mid + high
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, (low - high) / (2 * bend)))
