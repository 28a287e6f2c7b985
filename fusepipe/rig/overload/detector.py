"""Whether a live rig is too slow, from its counters. Pure; time is passed in.

A rig is overloaded when one of its mailboxes drops more than ``ENTER_SHARE`` of the pairs over ``ENTER_NS``, and no
longer when it drops less than ``LEAVE_SHARE`` over ``LEAVE_NS``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from fusepipe.core.units import S

ENTER_NS, ENTER_SHARE = 5 * S, 0.1
LEAVE_NS, LEAVE_SHARE = 10 * S, 0.03
IGNORED = ("drift",)  # drops by design


@dataclass(frozen=True, slots=True)
class LoadSample:
    """Counters since the start: pairs made, frames fused, frames dropped by mailbox."""

    at_ns: int
    paired: int
    fused: int
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Overload:
    """The mailbox that drops most, how many frames per second reach it, and how many get through."""

    mailbox: str
    in_per_s: float
    out_per_s: float


class OverloadDetector:
    """Takes a sample about once a second; ``overload`` is ``None`` while the rig keeps up."""

    def __init__(self) -> None:
        self.overload: Overload | None = None
        self._samples: deque[LoadSample] = deque()

    def restart(self) -> None:
        """Something has changed: decides from the samples after it."""
        self.overload = None
        self._samples.clear()

    @property
    def deciding(self) -> bool:
        """Whether it has too few samples to tell."""
        return not self._samples or self._samples[-1].at_ns - self._samples[0].at_ns < ENTER_NS

    def add(self, sample: LoadSample) -> None:
        if not sample.fused:
            return  # the engine is being compiled
        self._samples.append(sample)
        while len(self._samples) > 2 and sample.at_ns - self._samples[1].at_ns >= LEAVE_NS:
            self._samples.popleft()
        if self.overload is None:
            found = self._over(ENTER_NS, ENTER_SHARE)
            self.overload = found
        else:
            span_ns = sample.at_ns - self._samples[0].at_ns
            recovered = span_ns >= LEAVE_NS and self._over(LEAVE_NS, LEAVE_SHARE) is None
            self.overload = None if recovered else self._over(ENTER_NS, LEAVE_SHARE) or self.overload

    def _over(self, window_ns: int, share: float) -> Overload | None:
        """The overload over the window, if more than ``share`` of the pairs was dropped in one mailbox."""
        last = self._samples[-1]
        first = next((s for s in reversed(self._samples) if last.at_ns - s.at_ns >= window_ns), None)
        if first is None or last.paired == first.paired:
            return None
        seconds, paired = (last.at_ns - first.at_ns) / S, last.paired - first.paired
        dropped = {
            name: count - first.dropped.get(name, 0) for name, count in last.dropped.items() if name not in IGNORED
        }
        name = max(dropped, key=lambda one: dropped[one], default="")
        if not name or dropped[name] <= share * paired:
            return None
        fused = last.fused - first.fused
        if name.startswith("sink-"):
            reached, passed = fused, max(0, fused - dropped[name])
        else:
            reached, passed = paired, fused
        return Overload(name, reached / seconds, passed / seconds)
