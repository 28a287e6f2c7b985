"""Pairing of live cameras: capture clocks, then :class:`TimePairer` as for recordings, then the handling of outages.

Pure: time comes with the frames and with :meth:`LivePairer.expire`. Each frame gets its capture time on the host clock
from its camera's :class:`CaptureClock` and is paired with the nearest frame. During outages

- of the reference camera, the frames of the other camera are output alone (``single``),
- of both cameras, a no-signal slate is output every ``SLATE_NS`` (``no signal``).

A camera that is proven to repeat one image for longer than the rules' ``max_hold_ns`` is treated as disconnected.

Output capture times always increase: a pair that would step back is dropped and counted. So a reference camera that
returns with a backlog, for times already covered by the output, leads again only once it has caught up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from fusepipe.core.frames import Band, Disconnected, Frame, FramePair, PairState
from fusepipe.core.units import MS, format_duration
from fusepipe.pipeline.pairing.auto_sync import AutoSync
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.clock_advice import ClockComparison
from fusepipe.pipeline.pairing.degradation import Degradation, StateChange
from fusepipe.pipeline.pairing.flat_field import FlatFieldWatch, held_if_frozen
from fusepipe.pipeline.pairing.freeze import FreezeDetector
from fusepipe.pipeline.pairing.no_signal import no_signal_slate
from fusepipe.pipeline.pairing.time_pairer import PairingRules, TimePairer
from fusepipe.pipeline.sources.base import SourceItem

SILENT_NS = 250 * MS  # without a frame of the reference: the other camera leads
SILENT_STEPS = 2.5  # ... or this many of its usual frame intervals, for slow cameras
AWAY_NS = 1_000 * MS  # without a frame: the camera is reported as away
NO_SIGNAL_NS = 300 * MS  # without a frame of either camera
SLATE_NS = 100 * MS
END_NS = 1_000 * MS  # without a frame of either camera, once one has ended for good: the run ends
BACKLOG_NS = 2_000 * MS  # max time for a returning reference to catch up before it leads anyway
REPORT_NS = 60_000 * MS  # min time between reports of measured rules, which change with the load of the machine
START_NS = 2_000 * MS  # for cameras to connect: no slate before


@dataclass(frozen=True, slots=True)
class FreezeChange:
    """A camera is treated as disconnected because its image is ``frozen``, or its image has changed again.

    ``lasted_ns`` is for how long the image was the same.
    """

    band: Band
    frozen: bool
    lasted_ns: int


class LivePairer:
    """Makes pairs from two live cameras and keeps the output running during outages.

    ``size`` is the (width, height) of the slate before the first visible frame; ``start_ns`` is the start of the run.
    ``sync`` measures the cameras and gives the rules to pair with. ``tuned`` is called with the rules when they have
    changed, at most every ``REPORT_NS``; ``advise`` once with advice if the rig's own rules do not serve the cameras,
    and once for each time that the cameras' clocks seem not to agree.
    Frozen images are detected in the bands of ``detect_freezes``. ``changed`` is called at each change of the rig's
    state, ``froze`` when a camera is treated as disconnected for its frozen image, and afterwards.
    """

    def __init__(
        self,
        pairer: TimePairer,
        clocks: dict[Band, CaptureClock],
        *,
        reference: Band,
        size: tuple[int, int],
        start_ns: int,
        sync: AutoSync | None = None,
        detect_freezes: Collection[Band] = (Band.INFRARED, Band.VISIBLE),
        changed: Callable[[StateChange], None] = lambda change: None,
        froze: Callable[[FreezeChange], None] = lambda change: None,
        tuned: Callable[[str], None] = lambda text: None,
        advise: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.log = pairer.log
        self.clocks = clocks
        self.degradation = Degradation()
        self.freezes = {band: FreezeDetector() for band in detect_freezes}
        self.flat_field = FlatFieldWatch()
        self._pairer = pairer
        self._reference = reference
        self._size = size
        self._changed, self._froze, self._tuned, self._advise = changed, froze, tuned, advise
        self.sync = AutoSync(reference, pairer.rules, {}) if sync is None else sync
        self._wanted = self.sync.wanted
        self._reported = pairer.rules, start_ns  # the rules last given to tuned, and when it may be called again
        self._now_ns = start_ns
        self._heard_ns: dict[Band, int] = {Band.INFRARED: start_ns, Band.VISIBLE: start_ns}
        self._usual_ns: dict[Band, float] = {}
        self._backlog_since_ns: int | None = None  # since when the returned reference delivers its backlog
        self._ended: set[Band] = set()
        self._disconnected: set[Band] = set()
        self._ended_ns = start_ns
        self._frozen: set[Band] = set()  # treated as disconnected for a frozen image
        self._last_visible: Frame | None = None
        self._last_out_ns: int | None = None  # capture time
        self._last_out_at_ns = start_ns  # time of that output
        self._slate_due_ns = start_ns + START_NS
        self._index = 0
        self._comparison = ClockComparison()

    def wants(self) -> Band | None:
        return None if self._is_over() else self._reference

    def _is_over(self) -> bool:
        """Whether both cameras have ended for good, or one has and the other is disconnected."""
        if not self._ended or len(self._ended) == 2:
            return bool(self._ended)
        return self._now_ns - max(self._ended_ns, *self._heard_ns.values()) > END_NS

    def push(self, item: SourceItem) -> list[FramePair]:
        """Takes an item of a camera; its ``arrival_ns`` is the current time."""
        now_ns = self._advance(item.arrival_ns)
        if isinstance(item, Disconnected):
            self._disconnected.add(item.band)
            self.sync.forget_pairs()
        if not isinstance(item, Frame):
            return self._out(self._pairer.push(item), now_ns)
        absolute = all(clock.absolute for clock in self.clocks.values())
        self.clocks[item.band].use_absolute = absolute
        frame = self.clocks[item.band].stamp(item)
        infrared_ns, visible_ns = (self.clocks[band].delay_ns for band in (Band.INFRARED, Band.VISIBLE))
        if advice := self._comparison.advice(infrared_ns, visible_ns, self._pairer.rules.offset_ns):
            self._advise(advice)
        if (detector := self.freezes.get(frame.band)) is not None:
            detector.push(frame)
            if detector.original is not frame.original:
                frame = replace(frame, original=detector.original)
            if detector.proven_for(self._pairer.rules.max_hold_ns):
                return self._out(self._without(frame, detector), now_ns)
            self._unfreeze(frame.band)
        frame = self.flat_field.push(frame)
        self.sync.frame(frame, item.capture_ns)
        self._tune(now_ns)
        self._listen(frame, now_ns)
        if frame.band is Band.VISIBLE:
            self._last_visible = frame
        # while a reference frame waits for its partner, no frame is output alone
        waits = self._pairer.deadline_ns() is not None
        pairs = self._pairer.push(frame)
        pairs += self._pairer.expire(now_ns)
        if frame.band is not self._reference and not waits and self._reference_is_silent(now_ns):
            pairs.append(self._alone(frame))
        return self._out(pairs, now_ns)

    def end(self, band: Band) -> list[FramePair]:
        self._ended.add(band)
        self._ended_ns = self._now_ns
        return self._out(self._pairer.end(band), self._now_ns)

    def expire(self, now_ns: int) -> list[FramePair]:
        now_ns = self._advance(now_ns)
        return self._out([*self._pairer.expire(now_ns), *self._slate(now_ns)], now_ns)

    def deadline_ns(self) -> int | None:
        """When :meth:`expire` has to be called next: for a waiting pair or a slate."""
        waiting_ns = self._pairer.deadline_ns()
        return self._slate_due_ns if waiting_ns is None else min(waiting_ns, self._slate_due_ns)

    # -- settings

    @property
    def rules(self) -> PairingRules:
        """The rules that frames are paired with."""
        return self._pairer.rules

    def _tune(self, now_ns: int) -> None:
        """Uses the rules that the measured rates call for, or those of a reload."""
        sync, pairer = self.sync, self._pairer
        if not sync.update(now_ns) and self._wanted is sync.wanted:
            return
        self._wanted = sync.wanted
        other = sync.timings.get(self._reference.other)
        pairer.other_interval_ns = other.interval_ns if other is not None and other.regular else 0
        rules = sync.rules(pairer.rules)
        pairer.rules = rules
        if rules.auto and rules != self._reported[0] and now_ns >= self._reported[1]:
            self._reported = rules, now_ns + REPORT_NS
            self._tuned(
                f"tolerance {format_duration(rules.tolerance_ns)}, max_wait {format_duration(rules.max_wait_ns)}, "
                f"for {sync.description()}"
            )
        if advice := sync.advice(rules):
            self._advise(advice)

    # -- frozen images

    def _without(self, frame: Frame, detector: FreezeDetector) -> list[FramePair]:
        """Treats the camera of a frozen frame as disconnected."""
        self.log.skip(f"frozen {frame.band} frame")
        pairs: list[FramePair] = []
        if frame.band not in self._frozen:
            self._frozen.add(frame.band)
            self._disconnected.add(frame.band)
            self.sync.forget_pairs()
            self._pairer.withdraw(frame.band, frame.exposed.index)
            pairs = self._pairer.push(Disconnected(frame.band, "frozen image", self._now_ns))
            self._froze(FreezeChange(frame.band, True, detector.frozen_ns))
        return pairs + self._pairer.expire(self._now_ns)

    def _unfreeze(self, band: Band) -> None:
        """Takes notice of a new image of a camera that was treated as disconnected."""
        if band in self._frozen:
            self._frozen.discard(band)
            self._froze(FreezeChange(band, False, self.freezes[band].last_ns))

    # -- presence of the cameras

    def receives(self, band: Band, now_ns: int) -> bool:
        """Whether frames of a camera arrive now; any thread."""
        usual_ns = self._usual_ns.get(band)
        if usual_ns is None or band in self._ended or band in self._disconnected:
            return False
        return now_ns - self._heard_ns[band] <= max(AWAY_NS, SILENT_STEPS * usual_ns)

    # -- activity of the cameras

    def _advance(self, now_ns: int) -> int:
        self._now_ns = max(self._now_ns, now_ns)
        return self._now_ns

    def _listen(self, frame: Frame, now_ns: int) -> None:
        if frame.band is self._reference and self._is_backlog(frame, now_ns):
            return
        self._disconnected.discard(frame.band)
        step_ns = now_ns - self._heard_ns[frame.band]
        usual_ns = self._usual_ns.get(frame.band)
        if usual_ns is None or step_ns < 10 * usual_ns:  # an outage is not a usual step
            self._usual_ns[frame.band] = step_ns if usual_ns is None else usual_ns + (step_ns - usual_ns) / 8
        self._heard_ns[frame.band] = now_ns
        self._slate_due_ns = now_ns + NO_SIGNAL_NS + round(SILENT_STEPS * max(self._usual_ns.values()))

    def _is_backlog(self, frame: Frame, now_ns: int) -> bool:
        """Whether the returned reference still delivers frames for times that the output has already covered."""
        covered = self._last_out_ns is not None and frame.capture_ns <= self._last_out_ns - SILENT_NS
        if not covered or not self._reference_is_silent(now_ns):
            self._backlog_since_ns = None
            return False
        self._backlog_since_ns = now_ns if self._backlog_since_ns is None else self._backlog_since_ns
        return now_ns - self._backlog_since_ns < BACKLOG_NS

    def _reference_is_silent(self, now_ns: int) -> bool:
        if self._reference in self._ended or self._reference in self._disconnected:
            return True
        # a reference frame that pairs wait for is not silent yet
        silent_ns = max(SILENT_NS, 2 * self._pairer.rules.max_wait_ns)
        limit_ns = max(silent_ns, SILENT_STEPS * self._usual_ns.get(self._reference, 0))
        return now_ns - self._heard_ns[self._reference] > limit_ns

    # -- output

    def _alone(self, frame: Frame) -> FramePair:
        """A pair of the other camera's frame alone, while the reference is silent."""
        self._pairer.mark_used(frame)
        infrared, visible = (frame, None) if frame.band is Band.INFRARED else (None, frame)
        return FramePair(0, PairState.SINGLE, frame.band, infrared, visible, name=frame.name)

    def _slate(self, now_ns: int) -> list[FramePair]:
        if now_ns < self._slate_due_ns or self._ended:
            return []
        self._slate_due_ns = now_ns + SLATE_NS
        last_ns = self._last_out_ns
        # Slates advance at the pace of the output, so that frames of a returning camera are not behind them; the first
        # slate directly follows the last frame, so that frames which were merely late are not behind it either.
        capture_ns = now_ns if last_ns is None else last_ns + min(SLATE_NS, now_ns - self._last_out_at_ns)
        visible = no_signal_slate(self._last_visible, self._size, capture_ns, now_ns)
        return [FramePair(0, PairState.NO_SIGNAL, Band.VISIBLE, None, visible)]

    def _out(self, pairs: list[FramePair], now_ns: int) -> list[FramePair]:
        """Numbers the pairs, which are in order of capture; updates the rig's state."""
        given = []
        for pair in pairs:
            capture_ns = pair.lead.capture_ns
            if self._last_out_ns is not None and capture_ns <= self._last_out_ns:
                self.log.skip("late pair", f"{pair.lead.band} frame {pair.lead.index}")
                continue
            self.sync.pair(pair.state)
            pair = held_if_frozen(pair)
            self._last_out_ns, self._last_out_at_ns = capture_ns, now_ns
            given.append(pair if pair.index == self._index else replace(pair, index=self._index))
            self._index += 1
            self._note(self.degradation.pair(pair.state, now_ns, pair.lead.band))
        self._note(self.degradation.tick(now_ns))
        return given

    def _note(self, change: StateChange | None) -> None:
        if change is not None:
            self._changed(change)
