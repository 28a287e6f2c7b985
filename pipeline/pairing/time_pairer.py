"""Pairs frames by capture time, for recordings and, within :class:`LivePairer`, for live cameras. Pure."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fusepipe.core.frames import Band, Between, Disconnected, Frame, FramePair, PairState, UnreadableFrame
from fusepipe.pipeline.pairing.continuity import Continuity, ContinuityResult
from fusepipe.pipeline.pairing.pairer import PairingLog
from fusepipe.pipeline.sources.base import CapturedItem, SourceItem

OnMissing = Literal["hold", "drop", "single", "interpolate"]

TOLERANCE_NS = 20_000_000  # of recordings, and of live cameras until they are measured
MAX_WAIT_NS = 60_000_000
NEAREST = 0.4  # share of a regular camera's interval within which no other of its frames is nearer
SLACK_NS = 1_000_000_000  # how far back a frame of the other stream may step
MAX_BETWEEN_NS = 250_000_000  # images further apart are not interpolated: nothing is known of what moved meanwhile
MAX_CANDIDATES = 256  # live: frames kept while the reference stream is silent


@dataclass(frozen=True, slots=True)
class PairingRules:
    """The parameters of :class:`TimePairer`; see there. ``auto`` names those that are measured, for live cameras."""

    tolerance_ns: int
    offset_ns: int
    on_missing: OnMissing
    max_hold_ns: int
    max_wait_ns: int
    auto: frozenset[str] = frozenset()


@dataclass(slots=True, eq=False)
class _OtherFrame:
    """A frame of the stream that is not the reference: a candidate partner."""

    time_ns: int
    item: CapturedItem
    used: bool = False


class TimePairer:
    """Pairs each reference frame with the other stream's frame that was captured nearest to it.

    ``offset_ns`` is added to infrared capture times. A nearest frame within ``tolerance_ns`` makes a ``fused`` pair;
    otherwise ``on_missing`` applies: ``hold`` repeats the previous frame of the other stream for up to ``max_hold_ns``
    (``held``, then ``single``), ``single`` outputs the reference alone, ``drop`` drops it. ``interpolate`` is
    ``hold``, but with an infrared frame on either side, ``MAX_BETWEEN_NS`` apart at most, the pair has both
    (``interpolated``); the reference is the visible camera then, and both are recordings, whose next frame need not
    be waited for. A pair is decided as soon as no better match can arrive: when the other stream has reached the
    reference's time, has ended or is disconnected, or, live, ``max_wait_ns`` after the arrival. A frame may be the
    partner of two reference frames if it is the nearest to both, within the tolerance. ``rules`` holds these
    values; any thread may replace it, for the next decision. ``other_interval_ns`` is the frame interval of the
    other stream, where it is regular: a frame that is much nearer than half of it is the nearest one before the
    next has arrived. Without ``measured``, times are counted by a frame rate, so the pairs have no ``skew_ns``.
    """

    def __init__(
        self,
        reference: Band = Band.VISIBLE,
        tolerance_ns: int = TOLERANCE_NS,
        offset_ns: int = 0,
        on_missing: OnMissing = "hold",
        max_hold_ns: int = 1_000_000_000,
        max_wait_ns: int = MAX_WAIT_NS,
        *,
        measured: bool = True,
    ) -> None:
        self.log = PairingLog()
        self._measured = measured
        self._reference = reference
        self.rules = PairingRules(tolerance_ns, offset_ns, on_missing, max_hold_ns, max_wait_ns)
        self._waiting: deque[Frame] = deque()  # undecided reference frames, in order
        self._others: list[_OtherFrame] = []  # by time
        self._ended: set[Band] = set()
        self._disconnected: set[Band] = set()
        self.other_interval_ns = 0
        # the other stream is sorted here, so some disorder is harmless
        self._guards = {reference: Continuity(), reference.other: Continuity(SLACK_NS)}
        self._index = 0

    @property
    def candidates(self) -> int:
        """Frames of the other stream that are held; at most ``MAX_CANDIDATES``."""
        return len(self._others)

    def mark_used(self, frame: Frame) -> None:
        """The caller outputs this frame of the other stream itself: do not count it as unused."""
        for candidate in reversed(self._others):
            if candidate.item.index == frame.index:
                candidate.used = True
                return

    def withdraw(self, band: Band, index: int) -> None:
        """Forgets the waiting and candidate frames of a camera from this index on: they were no new captures."""
        if band is self._reference:
            self._waiting = deque(frame for frame in self._waiting if frame.index < index)
        else:
            self._others = [candidate for candidate in self._others if candidate.item.index < index]

    def wants(self) -> Band | None:
        if not self._waiting:
            return None if self._reference in self._ended else self._reference
        return self._reference.other  # a waiting frame is decided once the other stream has ended

    def push(self, item: SourceItem) -> list[FramePair]:
        if isinstance(item, Disconnected):
            self._disconnected.add(item.band)
            return self._decide()
        self._disconnected.discard(item.band)
        self._take(item.band, self._guards[item.band].push(item))
        return self._decide()

    def end(self, band: Band) -> list[FramePair]:
        self._take(band, self._guards[band].end())
        self._ended.add(band)
        pairs = self._decide()
        if len(self._ended) == 2:
            self._forget(len(self._others))
        return pairs

    def expire(self, now_ns: int) -> list[FramePair]:
        pairs: list[FramePair] = []
        while self._waiting and self._waiting[0].arrival_ns + self.rules.max_wait_ns <= now_ns:
            pairs += self._resolve(self._waiting.popleft())
            pairs += self._decide()
        return pairs

    def deadline_ns(self) -> int | None:
        return self._waiting[0].arrival_ns + self.rules.max_wait_ns if self._waiting else None

    # -- streams

    def _time_ns(self, band: Band, capture_ns: int) -> int:
        return capture_ns + (self.rules.offset_ns if band is Band.INFRARED else 0)

    def _take(self, band: Band, result: ContinuityResult) -> None:
        for frame in result.dropped:
            self.log.skip(f"{band} with wrong timestamp", f"frame {frame.index} at {frame.capture_ns / 1e9:.3f} s")
        if result.reset_ns is not None:
            self.log.skip(f"{band} clock reset", f"by {result.reset_ns / 1e9:.3f} s; bridged")
        for item in result.passed:
            if band is self._reference:
                self._push_reference(item)
            else:
                self._push_other(item)

    def _push_reference(self, item: CapturedItem) -> None:
        if isinstance(item, UnreadableFrame):
            self.log.unreadable(item)
        else:
            self._waiting.append(item)

    def _push_other(self, item: CapturedItem) -> None:
        if isinstance(item, UnreadableFrame):
            self.log.unreadable(item)
            if item.capture_ns is None:
                return
        assert item.capture_ns is not None
        other = _OtherFrame(self._time_ns(item.band, item.capture_ns), item)
        if not self._others or self._others[-1].time_ns <= other.time_ns:
            self._others.append(other)
        else:
            insort(self._others, other, key=lambda c: c.time_ns)
        self._forget(len(self._others) - MAX_CANDIDATES)

    # -- decisions

    def _decide(self) -> list[FramePair]:
        pairs: list[FramePair] = []
        while self._waiting and self._no_better_can_arrive(self._waiting[0]):
            pairs += self._resolve(self._waiting.popleft())
        return pairs

    def _no_better_can_arrive(self, frame: Frame) -> bool:
        """Whether the nearest frame of the other stream to this reference frame is known."""
        other = self._reference.other
        if other in self._ended or other in self._disconnected:
            return True
        if not self._others:
            return False
        since_ns = self._time_ns(self._reference, frame.capture_ns) - self._others[-1].time_ns
        return since_ns <= min(NEAREST * self.other_interval_ns, self.rules.tolerance_ns)

    def _resolve(self, frame: Frame) -> list[FramePair]:
        time_ns = self._time_ns(self._reference, frame.capture_ns)
        after = next((i for i, c in enumerate(self._others) if c.time_ns >= time_ns), len(self._others))
        # earlier frames but the last can neither be nearest to nor held for a later reference frame
        self._forget(after - 1)
        around = self._others[:2]
        nearest = min(around, key=lambda c: abs(c.time_ns - time_ns), default=None)
        if nearest is not None and abs(nearest.time_ns - time_ns) <= self.rules.tolerance_ns:
            nearest.used = True
            if isinstance(nearest.item, UnreadableFrame):
                self.log.skip(f"pair with unreadable {nearest.item.band}", f"frame {frame.index}")
                return []
            return [self._pair(PairState.FUSED, frame, nearest)]
        if self.rules.on_missing == "drop":
            self.log.skip(f"no {self._reference.other} within tolerance", f"{self._reference} frame {frame.index}")
            return []
        held = self._others[0] if self.rules.on_missing in ("hold", "interpolate") and self._others else None
        if held is not None and isinstance(held.item, Frame) and 0 <= time_ns - held.time_ns <= self.rules.max_hold_ns:
            held.used = True
            return [self._between(self._pair(PairState.HELD, frame, held), time_ns, around)]
        return [self._pair(PairState.SINGLE, frame, None)]

    def _between(self, pair: FramePair, time_ns: int, around: Sequence[_OtherFrame]) -> FramePair:
        """A held pair, to be interpolated where that is asked for and possible."""
        if self.rules.on_missing != "interpolate" or len(around) < 2:
            return pair
        before, after = around
        step_ns = after.time_ns - before.time_ns
        if not isinstance(after.item, Frame) or not 0 < step_ns <= min(MAX_BETWEEN_NS, self.rules.max_hold_ns):
            return pair
        after.used = True
        between = Between(after.item, (time_ns - before.time_ns) / step_ns)
        return replace(pair, state=PairState.INTERPOLATED, between=between)

    def _pair(self, state: PairState, frame: Frame, other: _OtherFrame | None) -> FramePair:
        skew_ns = None
        partner = other.item if other is not None and isinstance(other.item, Frame) else None
        if other is not None and self._measured:
            later_ns = other.time_ns - self._time_ns(self._reference, frame.capture_ns)
            skew_ns = later_ns if self._reference is Band.VISIBLE else -later_ns
        infrared, visible = (partner, frame) if self._reference is Band.VISIBLE else (frame, partner)
        pair = FramePair(self._index, state, self._reference, infrared, visible, skew_ns, name=frame.name)
        self._index += 1
        return pair

    def _forget(self, count: int) -> None:
        """Drops the ``count`` earliest candidates; counts those that were in no pair."""
        if count <= 0:
            return
        for candidate in self._others[:count]:
            if not candidate.used and isinstance(candidate.item, Frame):
                self.log.skip(f"unused {candidate.item.band} frame")
        del self._others[:count]
