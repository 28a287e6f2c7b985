"""Offset and skew of a camera's clock relative to the host clock, from arrival times. Pure; time is passed in.

A frame arrives its transport delay after its capture. Delays have a minimum; bursts, I-frames and a busy host only
increase them. So the line below all points (media time, arrival - media time) is the clock, the rest is delay. The line
is the edge of the lower convex hull at the mean media time, which minimises the sum of distances to the points of a
sliding window (Moon, Skelly and Towsley, "Estimation and removal of clock skew from network delay measurements",
INFOCOM 1999, equation 5). Only the minimum delay of each half second is kept, so an update takes microseconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BIN_NS = 500_000_000
WINDOW_BINS = 240  # two minutes: long enough for an accuracy of a few ppm, short enough to follow temperature
MIN_SPAN_NS = 5_000_000_000  # no skew is estimated from less
MAX_ERROR_PPM = 400.0  # a less certain estimate is not used
MAX_SKEW = 1e-3  # camera crystals are within 100 to 400 ppm


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
        self._bins: deque[tuple[int, int]] = deque(maxlen=WINDOW_BINS)  # (media time, min delay) of each half second
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
            self._origin_ns, self._level_ns = media_ns, float(delay_ns)
            self._bin_end_ns = arrival_ns + BIN_NS
        self.frames += 1
        if self._bin is None or delay_ns < self._bin[1]:
            self._bin = (media_ns, delay_ns)
        below_ns = delay_ns - self._line_ns(media_ns)
        if below_ns < 0:
            self._level_ns += below_ns  # no frame arrives before it was captured
        self._excess.append(round(max(0.0, below_ns)))
        if arrival_ns >= self._bin_end_ns:
            self._bins.append(self._bin)
            self._bin = None
            self._bin_end_ns = arrival_ns + BIN_NS
            self._fit()

    def host_ns(self, media_ns: int) -> int:
        """When a frame of this media time would have arrived with the minimum delay."""
        return media_ns + round(self._line_ns(media_ns))

    @property
    def span_ns(self) -> int:
        return self._bins[-1][0] - self._bins[0][0] if len(self._bins) > 1 else 0

    def line(self) -> tuple[int, float, float]:
        """Offset in nanoseconds, skew and its error in ppm; see :class:`ClockEstimate`."""
        # the line is arrival - media: it declines if the camera's clock runs fast
        return round(self._level_ns), -self._slope * 1e6, self._error_ppm

    def estimate(self) -> ClockEstimate:
        jitter_ns = int(np.percentile(self._excess, 95)) if self._excess else 0
        return ClockEstimate(*self.line(), jitter_ns, self.span_ns)

    def _line_ns(self, media_ns: int) -> float:
        return self._level_ns + self._slope * (media_ns - self._origin_ns)

    def _fit(self) -> None:
        first_ns = self._bins[0][0]
        points = [(media_ns - first_ns, delay_ns) for media_ns, delay_ns in self._bins]
        self._origin_ns, self._slope, self._error_ppm = first_ns, 0.0, float("inf")
        self._level_ns = float(min(delay for _, delay in points))
        if self.span_ns < MIN_SPAN_NS:
            return
        (left_x, left_y), (right_x, right_y) = _edge_under_mean(points)
        slope = max(-MAX_SKEW, min(MAX_SKEW, (right_y - left_y) / (right_x - left_x)))
        level = min(y - slope * x for x, y in points)  # below all points, also if the slope was clamped
        residual_ns = np.array([y - slope * x - level for x, y in points])
        # the line rests on a few minimum delays; the residuals of the others measure their scatter
        scatter_ns = float(np.median(residual_ns)) + 20_000
        error_ppm = 1e6 * 2 * scatter_ns / self.span_ns
        if error_ppm <= MAX_ERROR_PPM:  # otherwise zero skew is the better estimate
            self._slope, self._level_ns, self._error_ppm = slope, level, error_ppm


def _edge_under_mean(points: list[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The edge of the lower convex hull at the mean x of at least two ``points``, sorted by x."""
    hull: list[tuple[int, int]] = []
    for point in sorted(points):
        while len(hull) > 1 and _turns_right(hull[-2], hull[-1], point):
            hull.pop()
        if not hull or point[0] > hull[-1][0]:
            hull.append(point)
    mean_x = sum(x for x, _ in points) / len(points)
    for left, right in pairwise(hull):
        if right[0] >= mean_x:
            return left, right
    return hull[-2], hull[-1]


def _turns_right(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0])
