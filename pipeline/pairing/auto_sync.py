"""Tolerance and wait for two live cameras, from the frame rates and delays that are measured. Pure.

A reference frame is at most half a frame interval of the other camera away from that camera's nearest frame, and the
first frame after it arrives a frame interval, and the difference of the two cameras' delays, later. These are the
values of ``sync.tolerance`` and ``sync.max_wait`` with which no frame is held while both cameras deliver.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Band, Frame, PairState
from fusepipe.core.units import MS, S, format_duration
from fusepipe.pipeline.pairing.time_pairer import PairingRules

MIN_FRAMES = 12  # of each camera, before its timing is used
UPDATE_NS = S
MARGIN_NS = 5 * MS
MAX_TOLERANCE_NS = 100 * MS  # frames further apart do not show the same moment
MAX_WAIT_NS = 1_000 * MS
CHANGE = 0.15  # a value is kept while the measured one differs by less than this share
ADVICE_PAIRS = 100  # pairs that are judged together
MAX_HELD = 0.2  # share of held pairs above which settings are doubted


@dataclass(frozen=True, slots=True)
class Timing:
    """When a camera's frames are captured and arrive, in nanoseconds.

    ``interval_ns`` is the median frame interval, ``jitter_ns`` the 95th percentile of its error; ``early_ns`` and
    ``late_ns`` are the 5th and 99th percentile of the delay from capture to arrival. ``short_ns`` is by how much the
    shortest intervals (5th percentile) are shorter, on the camera's own clock: the host's estimate of that clock, and
    with it the times of the frames, shifts when frames arrive late.
    """

    interval_ns: int
    jitter_ns: int
    early_ns: int
    late_ns: int
    short_ns: int

    @property
    def regular(self) -> bool:
        """Whether the next frame will not come so early that it may be the nearest; lost frames do not matter."""
        return self.short_ns <= self.interval_ns // 10

    @property
    def rate_hz(self) -> float:
        return S / self.interval_ns


def measured_timing(capture_ns: list[int], arrival_ns: list[int], own_ns: list[int]) -> Timing:
    """The timing of consecutive frames, at least two.

    ``capture_ns`` and ``arrival_ns`` are on the host's clock, ``own_ns`` are the capture times on the camera's.
    """
    captures = np.array(capture_ns, np.int64)
    steps = np.diff(captures)
    delays = np.sort(np.array(arrival_ns, np.int64) - captures)
    interval = max(1, round(_percentile(np.sort(steps), 50)))
    return Timing(
        interval_ns=interval,
        jitter_ns=round(_percentile(np.sort(np.abs(steps - interval)), 95)),
        early_ns=round(_percentile(delays, 5)),
        late_ns=round(_percentile(delays, 99)),
        short_ns=max(0, interval - round(_percentile(np.sort(np.diff(np.array(own_ns, np.int64))), 5))),
    )


def _percentile(ordered: NDArray[np.int64], percent: float) -> float:
    """Of ordered values, interpolated as by ``np.percentile``, which takes a hundred times as long for so few."""
    place = percent / 100 * (len(ordered) - 1)
    below = int(place)
    low = int(ordered[below])
    high = int(ordered[min(below + 1, len(ordered) - 1)])
    return low + (place - below) * (high - low)


def needed_tolerance_ns(other: Timing) -> int:
    """The tolerance, in whole milliseconds, within which each reference frame has a frame of the other camera."""
    jitter_ns = min(other.jitter_ns, other.interval_ns // 4)  # a camera that drops frames has no more jitter for that
    return min(MAX_TOLERANCE_NS, _whole_ms(other.interval_ns / 2 + jitter_ns))


def needed_wait_ns(reference: Timing, other: Timing) -> int:
    """How long, in whole milliseconds, after a reference frame the next frame of the other camera may arrive."""
    late_ns = max(0, other.late_ns - reference.early_ns)
    return min(MAX_WAIT_NS, _whole_ms(other.interval_ns + late_ns + MARGIN_NS))


def _whole_ms(ns: float) -> int:
    return int(-(-ns // MS)) * MS


class AutoSync:
    """Measures both cameras while they run, and gives the rules to pair with.

    ``rules`` are the rig's own; the values named in its ``auto`` are replaced by measured ones. ``nominal_fps`` are the
    rates that the cameras state: they are used until there are measured ones.
    """

    def __init__(self, reference: Band, rules: PairingRules, nominal_fps: Mapping[Band, float | None]) -> None:
        self._reference = reference
        self._captures: dict[Band, deque[int]] = {band: deque(maxlen=128) for band in Band}
        self._arrivals: dict[Band, deque[int]] = {band: deque(maxlen=128) for band in Band}
        self._own: dict[Band, deque[int]] = {band: deque(maxlen=128) for band in Band}
        self.timings: dict[Band, Timing] = {
            band: Timing(round(S / fps), round(S / fps) // 8, 0, 20 * MS, round(S / fps) // 8)
            for band, fps in nominal_fps.items()
            if fps
        }
        self._measured: set[Band] = set()
        self._due_ns = 0
        self._states: Counter[PairState] = Counter()
        self._advised = False
        self.wanted = rules  # any thread may replace them

    def frame(self, frame: Frame, own_ns: int) -> None:
        """Takes a frame with its capture time on the host's clock; ``own_ns`` is that on the camera's own clock."""
        self._own[frame.band].append(own_ns)
        self._captures[frame.band].append(frame.capture_ns)
        self._arrivals[frame.band].append(frame.arrival_ns)

    def pair(self, state: PairState) -> None:
        """Takes the state of a pair; pairs without a second camera say nothing about the settings."""
        if state in (PairState.FUSED, PairState.HELD):
            self._states[state] += 1

    def forget_pairs(self) -> None:
        """Judges no pairs from before this moment: a camera was away or frozen."""
        self._states.clear()

    def update(self, now_ns: int) -> bool:
        """Measures again, at most every ``UPDATE_NS``; whether it did."""
        if now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + UPDATE_NS
        for band, captures in self._captures.items():
            if len(captures) >= MIN_FRAMES:
                self.timings[band] = measured_timing(list(captures), list(self._arrivals[band]), list(self._own[band]))
                self._measured.add(band)
        return True

    def rules(self, current: PairingRules) -> PairingRules:
        """The rules to pair with now, where ``current`` are those used so far."""
        wanted, needed = self.wanted, self._needed()
        if needed is None or not wanted.auto:
            return wanted
        tolerance_ns, wait_ns = needed
        made = wanted
        if "tolerance" in wanted.auto:
            made = replace(made, tolerance_ns=_kept(current.tolerance_ns, tolerance_ns))
        if "max_wait" in wanted.auto:
            made = replace(made, max_wait_ns=_kept(current.max_wait_ns, wait_ns))
        return made

    def advice(self, rules: PairingRules) -> str:
        """What to change in the rig's own settings if many pairs are held because of them; once, else empty."""
        total = self._states.total()
        needed = self._needed()
        if self._advised or total < ADVICE_PAIRS or needed is None or len(self._measured) < len(Band):
            return ""
        held = self._states[PairState.HELD] / total
        self._states.clear()
        if held <= MAX_HELD:
            return ""
        values = {"tolerance": (rules.tolerance_ns, needed[0]), "max_wait": (rules.max_wait_ns, needed[1])}
        short = {k: want for k, (have, want) in values.items() if k not in rules.auto and have < want}
        if not short:
            return ""
        self._advised = True
        have = ", ".join(f"{key}: {format_duration(values[key][0])}" for key in short)
        want = ", ".join(f"{key}: {format_duration(value)}" for key, value in short.items())
        return (
            f"{held:.0%} of the pairs are held: sync: {{{have}}} is too short for {self.description()}; "
            f"set sync: {{{want}}}, or leave it out to have it measured"
        )

    def description(self) -> str:
        """The rates of both cameras, for messages."""
        return " and ".join(f"{band} at {timing.rate_hz:.1f} Hz" for band, timing in sorted(self.timings.items()))

    def _needed(self) -> tuple[int, int] | None:
        """Tolerance and wait; ``None`` until the rates of both cameras are known."""
        reference, other = self.timings.get(self._reference), self.timings.get(self._reference.other)
        if reference is None or other is None:
            return None
        return needed_tolerance_ns(other), needed_wait_ns(reference, other)


def _kept(current_ns: int, needed_ns: int) -> int:
    """The value in use, unless the needed one differs noticeably."""
    return current_ns if abs(needed_ns - current_ns) <= CHANGE * current_ns else needed_ns
