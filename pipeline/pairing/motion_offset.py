"""A constant offset between two cameras, from the pictures alone: when the scene moves, both see it. Pure.

For each camera the *motion energy*, the mean absolute difference of successive small pictures, is a function of
time; the offset is where the two correlate best (normalised cross-correlation on a common grid). It needs motion
that starts, stops or changes its pace; a scene in which nothing moves, or all of it evenly, gets no answer.
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
LEAST_SPAN_NS = 5_000_000_000
SMALL = (80, 60)
TRUSTED = 0.5  # correlation from which an offset is given
CLEAR = 1.15  # and how much higher it is than any other peak

NEAR = 20  # grid steps within which another maximum is the same peak, with noise on it

Samples = Sequence[tuple[int, float]]  # (capture time in ns, motion energy)


@dataclass(frozen=True, slots=True)
class MotionOffset:
    """``offset_ns`` is to be added to the infrared times; ``correlation`` from -1 to 1 at that offset."""

    offset_ns: int
    correlation: float
    trusted: bool


class MotionEnergy:
    """Collects one camera's motion energy; ``push`` every frame with its capture time on the common clock."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, float]] = []
        self._last: NDArray[np.float32] | None = None
        self._last_ns = 0

    def push(self, frame: Frame) -> None:
        small = np.asarray(cv2.resize(frame.luma.pixels, SMALL, interpolation=cv2.INTER_AREA), np.float32)
        if self._last is not None and self._last.shape == small.shape:
            middle_ns = (self._last_ns + frame.capture_ns) // 2  # what moved, moved between the two
            self.samples.append((middle_ns, float(np.abs(small - self._last).mean())))
        self._last, self._last_ns = small, frame.capture_ns


def estimate_offset(infrared: Samples, visible: Samples) -> MotionOffset | None:
    """The offset of best correlation within two seconds; ``None`` where both share less than five seconds."""
    if len(infrared) < 2 or len(visible) < 2:
        return None
    start_ns = max(infrared[0][0], visible[0][0])
    end_ns = min(infrared[-1][0], visible[-1][0])
    if end_ns - start_ns < LEAST_SPAN_NS:
        return None
    grid = np.arange(start_ns, end_ns, GRID_NS, dtype=np.float64)
    a, b = (_on_grid(samples, grid) for samples in (infrared, visible))
    lags = MAX_OFFSET_NS // GRID_NS
    scores = np.array([_correlation(a, b, lag) for lag in range(-lags, lags + 1)])
    best = int(np.argmax(scores))
    # slow motion has a broad peak: what counts against it are other peaks, not its flanks
    inner = scores[1:-1]
    is_peak = np.concatenate([[False], (inner >= scores[:-2]) & (inner > scores[2:]), [False]])
    is_peak[max(0, best - NEAR) : best + NEAR + 1] = False
    second = float(scores[is_peak].max()) if is_peak.any() else 0.0
    peak = float(scores[best])
    trusted = peak >= TRUSTED and peak >= CLEAR * max(second, 0.0) and 0 < best < len(scores) - 1
    return MotionOffset(round((best - lags + _between(scores, best)) * GRID_NS), round(peak, 3), trusted)


def _on_grid(samples: Samples, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    times = np.array([t for t, _ in samples], np.float64)
    # the logarithm, so that a hot or a large object does not outweigh the rest
    energy = np.log1p(np.array([e for _, e in samples], np.float64))
    return np.interp(grid, times, energy)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64], lag: int) -> float:
    """Pearson's coefficient of ``a`` (infrared), moved later by ``lag`` grid steps, and ``b``."""
    if lag >= 0:
        left, right = a[: len(a) - lag], b[lag:]
    else:
        left, right = a[-lag:], b[: len(b) + lag]
    left, right = left - left.mean(), right - right.mean()
    scale = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / scale if scale > 0 else 0.0


def _between(scores: NDArray[np.float64], best: int) -> float:
    """The peak of the parabola through the best score and its neighbours, from -0.5 to 0.5."""
    if not 0 < best < len(scores) - 1:
        return 0.0
    low, mid, high = (float(s) for s in scores[best - 1 : best + 2])
    bend = low - 2 * mid + high
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, (low - high) / (2 * bend)))
