"""Pairing of live cameras: clocks, then the same :class:`TimePairer` as for recordings, then what covers outages.

Pure logic: time comes with the frames and with :meth:`LivePairer.expire`. Each frame is laid onto the host's
clock by its camera's :class:`CaptureClock`; the pairer takes the nearest; and where it has nothing to give

- because the reference camera is silent, the other camera's frames go on alone (``single``),
- because both are, a darkened card goes on at ``CARD_NS`` intervals (``no signal``).

Capture times of what comes out always rise: a pair that would step back is dropped and counted. So a reference that
comes back with a backlog, whose time the output has had already, does not lead again before it has caught up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from fusepipe.core.frames import Band, Frame, FramePair, PairState, Plane
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.degradation import Change, Degradation
from fusepipe.pipeline.pairing.freeze import FreezeDetector
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.sources.base import SourceItem

MS = 1_000_000
SILENT_NS = 250 * MS  # the reference is silent: the other camera leads
SILENT_STEPS = 2.5  # ... or so many of its usual frame intervals, for slow cameras
NO_SIGNAL_NS = 300 * MS  # both are silent
CARD_NS = 100 * MS
BACKLOG_NS = 2_000 * MS  # within which a reference that comes back has to have caught up, or leads as it is
START_NS = 2_000 * MS  # cameras need a moment to connect: no card before


class LivePairer:
    """Makes pairs of two live cameras and sees to it that the output goes on.

    ``size`` is the (width, height) of the card while nothing was seen yet; ``start_ns`` when waiting begins.
    ``changed`` is called at each change of the rig's state.
    """

    def __init__(
        self,
        pairer: TimePairer,
        clocks: dict[Band, CaptureClock],
        *,
        reference: Band,
        size: tuple[int, int],
        start_ns: int,
        max_wait_ns: int = 0,
        changed: Callable[[Change], None] = lambda change: None,
    ) -> None:
        self.log = pairer.log
        self.clocks = clocks
        self.degradation = Degradation()
        self.freeze = FreezeDetector()
        self._pairer = pairer
        self._reference = reference
        self._size = size
        self._changed = changed
        self.set_max_wait(max_wait_ns)
        self._now_ns = start_ns
        self._heard_ns: dict[Band, int] = {Band.INFRARED: start_ns, Band.VISIBLE: start_ns}
        self._usual_ns: dict[Band, float] = {}
        self._back_ns: int | None = None  # since when the reference delivers what it could not while it was silent
        self._ended: set[Band] = set()
        self._frozen: set[int] = set()  # indices of infrared frames that repeat a picture
        self._last_visible: Frame | None = None
        self._last_out_ns: int | None = None  # capture time
        self._last_out_at_ns = start_ns  # when that was
        self._card_due_ns = start_ns + START_NS
        self._index = 0

    def set_max_wait(self, max_wait_ns: int) -> None:
        """A reference that is waited for is not silent yet. May be called by another thread."""
        self._silent_ns = max(SILENT_NS, 2 * max_wait_ns)

    def wants(self) -> Band | None:
        return None if len(self._ended) == 2 else self._reference

    def push(self, item: SourceItem) -> list[FramePair]:
        """Takes what a camera delivered; its ``arrival_ns`` is the time now."""
        now_ns = self._advance(item.arrival_ns)
        if not isinstance(item, Frame):
            return self._out(self._pairer.push(item), now_ns)
        absolute = all(clock.absolute for clock in self.clocks.values())
        self.clocks[item.band].absolute_wanted = absolute
        frame = self.clocks[item.band].stamp(item)
        self._listen(frame, now_ns)
        if frame.band is Band.INFRARED and self.freeze.push(frame):
            self._frozen.add(frame.index)
        self._frozen = {index for index in self._frozen if index > frame.index - 1000}
        if frame.band is Band.VISIBLE:
            self._last_visible = frame
        # while a frame of the reference, the last one maybe, waits for its partner, nobody is alone
        waits = self._pairer.deadline_ns() is not None
        pairs = self._pairer.push(frame)
        pairs += self._pairer.expire(now_ns)
        if frame.band is not self._reference and not waits and self._reference_is_silent(now_ns):
            pairs.append(self._alone(frame))
        return self._out(pairs, now_ns)

    def end(self, band: Band) -> list[FramePair]:
        self._ended.add(band)
        return self._out(self._pairer.end(band), self._now_ns)

    def expire(self, now_ns: int) -> list[FramePair]:
        now_ns = self._advance(now_ns)
        return self._out([*self._pairer.expire(now_ns), *self._card(now_ns)], now_ns)

    def deadline_ns(self) -> int | None:
        """When :meth:`expire` has something to do next: a waiting pair, or a card."""
        waiting_ns = self._pairer.deadline_ns()
        return self._card_due_ns if waiting_ns is None else min(waiting_ns, self._card_due_ns)

    # -- who speaks

    def _advance(self, now_ns: int) -> int:
        self._now_ns = max(self._now_ns, now_ns)
        return self._now_ns

    def _listen(self, frame: Frame, now_ns: int) -> None:
        if frame.band is self._reference and self._is_backlog(frame, now_ns):
            return
        step_ns = now_ns - self._heard_ns[frame.band]
        usual_ns = self._usual_ns.get(frame.band)
        if usual_ns is None or step_ns < 10 * usual_ns:  # an outage is no usual step
            self._usual_ns[frame.band] = step_ns if usual_ns is None else usual_ns + (step_ns - usual_ns) / 8
        self._heard_ns[frame.band] = now_ns
        self._card_due_ns = now_ns + NO_SIGNAL_NS + round(SILENT_STEPS * max(self._usual_ns.values()))

    def _is_backlog(self, frame: Frame, now_ns: int) -> bool:
        """Whether the silent reference delivers what is of no use any more: the output has had its time."""
        covered = self._last_out_ns is not None and frame.capture_ns <= self._last_out_ns - SILENT_NS
        if not covered or not self._reference_is_silent(now_ns):
            self._back_ns = None
            return False
        self._back_ns = now_ns if self._back_ns is None else self._back_ns
        return now_ns - self._back_ns < BACKLOG_NS

    def _reference_is_silent(self, now_ns: int) -> bool:
        if self._reference in self._ended:
            return True
        limit_ns = max(self._silent_ns, SILENT_STEPS * self._usual_ns.get(self._reference, 0))
        return now_ns - self._heard_ns[self._reference] > limit_ns

    # -- what stands in

    def _alone(self, frame: Frame) -> FramePair:
        """The other camera's frame while the reference is silent."""
        self._pairer.serves(frame)
        infrared, visible = (frame, None) if frame.band is Band.INFRARED else (None, frame)
        return FramePair(0, PairState.SINGLE, frame.band, infrared, visible, name=frame.name)

    def _card(self, now_ns: int) -> list[FramePair]:
        if now_ns < self._card_due_ns or len(self._ended) == 2:
            return []
        self._card_due_ns = now_ns + CARD_NS
        last_ns = self._last_out_ns
        # The card keeps the output's own pace, so that frames that come again are not behind it; the first one follows
        # the last picture, however long that was waited for, so that those which were only late are not either.
        capture_ns = now_ns if last_ns is None else last_ns + min(CARD_NS, now_ns - self._last_out_at_ns)
        visible = card(self._last_visible, self._size, capture_ns, now_ns)
        return [FramePair(0, PairState.NO_SIGNAL, Band.VISIBLE, None, visible)]

    def _out(self, pairs: list[FramePair], now_ns: int) -> list[FramePair]:
        """Numbers the pairs, in order of capture; reports the rig's state."""
        given = []
        for pair in pairs:
            capture_ns = pair.lead.capture_ns
            if self._last_out_ns is not None and capture_ns <= self._last_out_ns:
                self.log.skip("pair behind the output", f"{pair.lead.band} frame {pair.lead.index}")
                continue
            if pair.state is PairState.FUSED and pair.infrared is not None and pair.infrared.index in self._frozen:
                pair = replace(pair, state=PairState.HELD)
            self._last_out_ns, self._last_out_at_ns = capture_ns, now_ns
            given.append(replace(pair, index=self._index))
            self._index += 1
            self._note(self.degradation.pair(pair.state, now_ns))
        self._note(self.degradation.tick(now_ns))
        return given

    def _note(self, change: Change | None) -> None:
        if change is not None:
            self._changed(change)


def card(last: Frame | None, size: tuple[int, int], capture_ns: int, now_ns: int) -> Frame:
    """What stands in while no camera delivers: the last visible picture darkened to a quarter, else black.

    ``size`` is (width, height) where there was none. Full range where black, else the picture's own.
    """
    if last is not None:
        luma = last.luma
        floor = 16 if luma.value_range == "limited" else 0
        dark = (luma.pixels.astype(np.uint16) + 3 * floor) // 4
        planes = (Plane(dark.astype(np.uint8), 8, luma.value_range), *last.chroma)
        return replace(last, planes=planes, capture_ns=capture_ns, arrival_ns=now_ns, stamp=None)
    width, height = size
    half = Plane(np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8))
    return Frame(
        band=Band.VISIBLE,
        planes=(Plane(np.zeros((height, width), np.uint8)), half, half),
        index=0,
        capture_ns=capture_ns,
        pts=capture_ns,
        time_base=Fraction(1, 1_000_000_000),
        arrival_ns=now_ns,
    )
