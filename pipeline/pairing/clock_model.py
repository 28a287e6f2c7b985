"""Offset and skew of a camera's clock relative to the host clock, from arrival times. Pure; time is passed in.

A frame arrives its transport delay after its capture. Delays have a minimum; bursts, I-frames and a busy host only
increase them. So the line below all points (media time, arrival - media time) is the clock, the rest is delay. The line
is the edge of the lower convex hull at the mean media time, which minimises the sum of distances to the points of a
sliding window (Moon, Skelly and Towsley, "Estimation and removal of clock skew from network delay measurements",
INFOCOM 1999, equation 5). Only the minimum delay of each half second is kept, and of the hull only that edge is
computed, starting from the last one: its line is the highest at the mean media time that lies below all points.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BIN_NS = 500_000_000
WINDOW_BINS = 240  # two minutes: long enough for an accuracy of a few ppm, short enough to follow temperature
MIN_SPAN_NS = 5_000_000_000  # no skew is estimated from less
MAX_ERROR_PPM = 400.0  # a less certain estimate is not used
MAX_STEPS = 60  # of the search for the edge, which takes two to five
MAX_SKEW = 1e-3  # camera crystals are within 100 to 400 ppm

Times = NDArray[np.float64]  # ns relative to the first frame of the model: exact for a hundred days


@dataclass(frozen=True, slots=True)
class ClockEstimate:
    """The current estimate. ``skew_ppm`` above 0: the camera's clock runs fast.

    ``skew_error_ppm`` is the half-width of a confidence interval, infinite without a skew estimate. ``jitter_ns`` is
    the 95th percentile of the delay above the minimum; ``span_ns`` is the duration of the data.
    """

    offset_ns: int
    skew_ppm: float
    skew_error_ppm: float
    jitter_ns: int
    span_ns: int


class ClockModel:
    """Maps media time to the host's monotonic time of the earliest possible arrival.

    ``media_ns`` is the camera's own time, ``arrival_ns`` the host's. Call :meth:`observe` for every frame.
    """

    def __init__(self) -> None:
        self._media, self._delays = np.empty(WINDOW_BINS), np.empty(WINDOW_BINS)  # of each half second's min delay
        self._bins = 0
        self._zero = 0, 0  # media time and delay of the first frame, to which those are relative
        self.span_ns = 0
        self._bin: tuple[int, int] | None = None
        self._bin_end_ns = 0
        self._origin_ns = 0  # media time at which the line is at _level_ns
        self._level_ns = 0.0
        self._slope = 0.0
        self._error_ppm = float("inf")
        self._excess: deque[int] = deque(maxlen=1024)
        self.frames = 0

    def observe(self, media_ns: int, arrival_ns: int) -> None:
        """Adds a frame."""
        delay_ns = arrival_ns - media_ns
        if not self.frames:
            self._zero = media_ns, delay_ns
            self._origin_ns, self._level_ns = media_ns, float(delay_ns)
            self._bin_end_ns = arrival_ns + BIN_NS
        self.frames += 1
        if self._bin is None or delay_ns < self._bin[1]:
            self._bin = (media_ns, delay_ns)
        below_ns = delay_ns - self._line_ns(media_ns)
        if below_ns < 0:
            self._level_ns += below_ns  # no frame arrives before it was captured
            below_ns = 0.0
        self._excess.append(round(below_ns))
        if arrival_ns >= self._bin_end_ns:
            self._keep(*self._bin)
            self._bin = None
            self._bin_end_ns = arrival_ns + BIN_NS
            self._fit()

    def host_ns(self, media_ns: int) -> int:
        """When a frame of this media time would have arrived with the minimum delay."""
        return media_ns + round(self._line_ns(media_ns))

    def line(self) -> tuple[int, float, float]:
        """Offset in nanoseconds, skew and its error in ppm; see :class:`ClockEstimate`."""
        # the line is arrival - media: it declines if the camera's clock runs fast
        return round(self._level_ns), -self._slope * 1e6, self._error_ppm

    def estimate(self) -> ClockEstimate:
        jitter_ns = int(np.percentile(self._excess, 95)) if self._excess else 0
        return ClockEstimate(*self.line(), jitter_ns, self.span_ns)

    def _line_ns(self, media_ns: int) -> float:
        return self._level_ns + self._slope * (media_ns - self._origin_ns)

    def _keep(self, media_ns: int, delay_ns: int) -> None:
        """Adds the min delay of a half second; the oldest of a full window is forgotten."""
        if self._bins == WINDOW_BINS:
            self._media[:-1], self._delays[:-1] = self._media[1:], self._delays[1:]
            self._bins -= 1
        self._media[self._bins], self._delays[self._bins] = media_ns - self._zero[0], delay_ns - self._zero[1]
        self._bins += 1

    def _fit(self) -> None:
        media, delays = self._media[: self._bins], self._delays[: self._bins]
        guess, (zero_ns, zero_delay_ns) = self._slope, self._zero
        self.span_ns = round(float(media[-1] - media[0]))
        self._origin_ns, self._slope, self._error_ppm = zero_ns + round(float(media[0])), 0.0, float("inf")
        self._level_ns = zero_delay_ns + float(delays.min())
        if self.span_ns < MIN_SPAN_NS:
            return
        x = media - media[0]
        slope = max(-MAX_SKEW, min(MAX_SKEW, slope_under_mean(x, delays, guess)))
        residual_ns = delays - slope * x
        residual_ns.sort()
        # the line rests on a few minimum delays; the residuals of the others measure their scatter
        middle = self._bins // 2
        median_ns = float(residual_ns[middle] + residual_ns[middle - 1 + self._bins % 2]) / 2
        level = float(residual_ns[0])  # below all points, also if the slope was clamped
        error_ppm = 1e6 * 2 * (median_ns - level + 20_000) / self.span_ns
        if error_ppm <= MAX_ERROR_PPM:  # otherwise zero skew is the better estimate
            self._slope, self._level_ns, self._error_ppm = slope, zero_delay_ns + level, error_ppm


def slope_under_mean(x: Times, y: Times, guess: float) -> float:
    """The slope of the edge of the lower convex hull at the mean of ``x``, of at least two different values.

    The edge's line is the one that touches points on both sides of the mean and has none below it. From a slope near
    it, the two points that a line of this slope touches from below, one on either side, give a better slope. ``low``
    and ``high`` bound it: it is higher than a slope at which the line at the left is the lower one.
    """
    left = x < x.mean()
    low, high, slope = -np.inf, np.inf, guess
    left_x, left_y, right_x, right_y = x[left], y[left], x[~left], y[~left]
    for _ in range(MAX_STEPS):
        at_left, at_right = int((left_y - slope * left_x).argmin()), int((right_y - slope * right_x).argmin())
        rise = float(right_y[at_right] - left_y[at_left])
        run = float(right_x[at_right] - left_x[at_left])
        if rise > slope * run:
            low = slope
        else:
            high = slope
        better = rise / run
        if better == slope:
            break
        slope = better if low < better < high else (low + high) / 2
    return slope
