"""Wires the stages with bounded mailboxes and runs them: one thread a source, stage and sink.

::

    read-infrared --> [infrared] --\\
                                    pair --> [paired] --> register --> [registered] --> fuse --> [sink-1] --> write-1
    read-visible  --> [visible]  --/                                                        \\-> [sink-2] --> write-2

Each stage only sees its mailboxes, whose names are in brackets. A drift watch gets registered pairs at a low rate
through a mailbox of its own, [drift].
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from fusepipe.core.errors import SinkError, SourceError
from fusepipe.core.frames import Band, Disconnected, Frame, FramePair, FusedFrame, PairState, UnreadableFrame
from fusepipe.core.fuser import Fuser
from fusepipe.pipeline.mailbox import Cancelled, Closed, Mailbox, get_any
from fusepipe.pipeline.measures.run_statistics import BusyTime, RunStatistics
from fusepipe.pipeline.measures.thread_cpu import FUSION_STAGE, WATCH_STAGE
from fusepipe.pipeline.pairing.pairer import Pairer
from fusepipe.pipeline.run_limits import RunLimits
from fusepipe.pipeline.sinks.base import Sink, SinkReport
from fusepipe.pipeline.sinks.runner import SinkFactory, SinkRunner
from fusepipe.pipeline.sources.base import MayBlock, Overflow, Source, SourceItem
from fusepipe.pipeline.stages.drift_watch import DriftWatch
from fusepipe.pipeline.stages.fusion import FusionStep
from fusepipe.pipeline.supervisor import Supervisor

log = logging.getLogger(__name__)

CAPACITY = 4  # frames a mailbox of live cameras holds: enough to even out jitter, few enough to keep latency low
FILE_CAPACITY = 2  # of recordings: one to take while the next is made; more would wait in memory without being faster
LIVE_CAPACITY = 1  # pairs of live cameras waiting for a late stage: only the newest matters
BURST = 8  # mailbox capacity for frames that arrive together, see Mailbox
STOP_POLL_S = 0.2  # how often the pairing stage of live cameras checks for the end of the run


class Graph:
    """One rig's running pipeline: ``start``, then ``wait``; ``drain`` ends it early, ``abort`` immediately.

    ``transforms`` are applied to each pair in order (registration, tone mapping); ``crop`` is applied afterwards to
    what is fused, so that a drift watch sees the full frame. ``size`` is the (height, width) that the fuser is prepared
    for, where known. ``overlay`` is applied to each fused frame, once for all sinks. ``sink_factories`` has one entry
    for each of ``sinks``: what makes its replacement after a failure, or ``None`` for a sink that is not restarted;
    ``views`` likewise what makes its image of a fused frame. ``watch`` runs in a thread of its own until its event is
    set. The graph closes the sources, the fuser and the sinks.
    """

    def __init__(
        self,
        name: str,
        *,
        sources: Sequence[Source],
        pairer: Pairer,
        transforms: Sequence[Callable[[FramePair], FramePair]],
        fuser: Fuser,
        fusion: FusionStep,
        size: tuple[int, int] | None,
        sinks: Sequence[Sink],
        statistics: RunStatistics,
        limits: RunLimits | None = None,
        drift: DriftWatch | None = None,
        crop: Callable[[FramePair], FramePair] | None = None,
        overlay: Callable[[FusedFrame], FusedFrame] | None = None,
        sink_factories: Sequence[SinkFactory | None] = (),
        views: Sequence[Callable[[FusedFrame], FusedFrame] | None] = (),
        watch: Callable[[threading.Event], None] | None = None,
    ) -> None:
        self.name = name
        self.statistics = statistics
        self.pairer = pairer
        self.supervisor = Supervisor(name)
        self.sink_errors: list[SinkError] = []  # of sinks that failed permanently
        self._sink_lock = threading.Lock()
        self._fuser, self._fusion, self._size = fuser, fusion, size
        self._transforms, self._crop, self._overlay = transforms, crop, overlay
        self._limits = limits or RunLimits()
        self._drift = drift
        self._live = any(source.clock == "wall" for source in sources)
        self._make_mailboxes(sources, len(sinks))
        nothing: list[None] = [None] * len(sinks)
        self.runners = [
            SinkRunner(name, sink, outbox, live=self._live, factory=factory, written=self._written, view=view)
            for sink, outbox, factory, view in zip(
                sinks, self._outbox, sink_factories or nothing, views or nothing, strict=True
            )
        ]
        self._add_stages(sources)
        if watch is not None:
            self._spawn(WATCH_STAGE, watch, self.supervisor.stop)

    def _make_mailboxes(self, sources: Sequence[Source], sinks: int) -> None:
        arrivals = threading.Condition()  # shared by both streams: pairing waits for either
        frames = CAPACITY if self._live else FILE_CAPACITY
        self._inbox: dict[Band, Mailbox[SourceItem]] = {
            s.band: Mailbox(str(s.band), frames, s.overflow, arrivals, burst=BURST) for s in sources
        }
        overflow = Overflow.DROP_OLDEST if self._live else Overflow.BLOCK
        between = LIVE_CAPACITY if self._live else FILE_CAPACITY
        self._paired: Mailbox[FramePair] = Mailbox("paired", between, overflow, burst=BURST)
        self._registered: Mailbox[FramePair] = Mailbox("registered", between, overflow, burst=BURST)
        self._outbox: list[Mailbox[FusedFrame]] = [
            Mailbox(f"sink-{number}", frames, overflow, burst=BURST) for number in range(1, sinks + 1)
        ]
        # A correction of a recording has to apply from the same frame in every run: it is made in the register stage.
        self._drift_inbox: Mailbox[FramePair] | None = None
        if self._drift is not None and (self._live or self._drift.mode == "watch"):
            self._drift_inbox = Mailbox("drift", between, overflow)
        every: list[Mailbox[Any]] = [*self._inbox.values(), self._paired, self._registered, *self._outbox]
        every += [] if self._drift_inbox is None else [self._drift_inbox]
        self.mailboxes: dict[str, Mailbox[Any]] = {mailbox.name: mailbox for mailbox in every}
        self.supervisor.watch(every)

    def _add_stages(self, sources: Sequence[Source]) -> None:
        for source in sources:
            self._spawn(f"read-{source.band}", self._read, source, may_block=isinstance(source, MayBlock))
        self._spawn("pair", self._pair)
        self._spawn("register", self._register)
        if self._drift_inbox is not None:
            self._spawn("drift", self._check_drift, self._drift_inbox)
        self._spawn(FUSION_STAGE, self._fuse)
        for number, runner in enumerate(self.runners, 1):
            self._spawn(f"write-{number}", self._write, runner)

    # -- control

    def start(self) -> None:
        self.supervisor.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Returns ``False`` if it is still running after ``timeout_s``; does not raise the graph's own error."""
        return self.supervisor.wait(timeout_s)

    def drain(self) -> None:
        self.supervisor.drain()

    def abort(self) -> None:
        self.supervisor.abort()

    @property
    def sink_reports(self) -> list[SinkReport]:
        """Of the sinks that have been closed."""
        return [runner.report for runner in self.runners if runner.report is not None]

    def sink_states(self) -> list[dict[str, Any]]:
        """For each sink: whether it is up, failures, restarts, frames missed; see :meth:`SinkRunner.status`."""
        return [runner.status() for runner in self.runners]

    @property
    def error(self) -> BaseException | None:
        """What ended the run early, or, after the run, why a sink failed permanently."""
        if self.supervisor.error is None and self.sink_errors and self.supervisor.finished:
            return self.sink_errors[0]
        return self.supervisor.error

    def dropped(self) -> dict[str, int]:
        """Frames dropped because the next stage was late, by mailbox."""
        return {name: box.dropped for name, box in self.mailboxes.items() if box.dropped}

    def sinks_recently(self, now_ns: int) -> list[dict[str, Any]]:
        """For each sink, the rates of the last seconds; see :meth:`SinkRunner.recent`."""
        return [runner.recent(now_ns) for runner in self.runners]

    def depths(self) -> dict[str, int]:
        """Frames waiting, by mailbox."""
        return {name: box.depth for name, box in self.mailboxes.items()}

    # -- stages, one thread each

    def _spawn(self, name: str, target: Callable[..., None], *args: Any, may_block: bool = False) -> None:
        def run() -> None:
            self.statistics.stage_started(name)
            try:
                target(*args)
            finally:
                self.statistics.stage_ended(name)

        self.supervisor.spawn(name, run, may_block=may_block)

    def _read(self, source: Source) -> None:
        inbox = self._inbox[source.band]
        try:
            for item in source.frames(self.supervisor.stop):
                if not isinstance(item, Disconnected):
                    self.statistics.frame_read(source.band)
                inbox.put(item)
        finally:
            inbox.close()
            source.close()

    def _pair(self) -> None:
        pairer, inboxes = self.pairer, dict(self._inbox)
        first_ns: int | None = None
        made = 0
        try:
            while (wanted := pairer.wants()) is not None and inboxes:
                if self._live and self.supervisor.stop.is_set():
                    return  # a silent camera's reader may take its stall timeout to end; do not wait for it
                for pair in self._next_pairs(wanted, inboxes):
                    at_ns = pair.lead.capture_ns
                    if not self._limits.begun(at_ns):
                        continue
                    first_ns = at_ns if first_ns is None else first_ns
                    if self._limits.ended(at_ns) or self._limits.reached(made, at_ns - first_ns):
                        return
                    self.statistics.pair_made(time.monotonic_ns())
                    self._paired.put(pair)
                    made += 1
                if self._limits.reached(made, 0):
                    return
            self._note_unpaired_tail(inboxes)
        finally:
            self._paired.close()
            self.supervisor.end_sources()  # a reader without frames would not notice that its inbox is cancelled
            for inbox in self._inbox.values():
                inbox.cancel()

    def _next_pairs(self, wanted: Band, inboxes: dict[Band, Mailbox[SourceItem]]) -> list[FramePair]:
        """Waits for the next item or deadline; removes the inbox of a stream that has ended."""
        waited_for = list(inboxes.values()) if self._live else [inboxes[wanted]]
        try:
            _, item = get_any(waited_for, self._wait_s())
        except TimeoutError:
            return self.pairer.expire(time.monotonic_ns())
        except Closed as closed:
            band = Band(closed.args[0].name)
            del inboxes[band]
            return self.pairer.end(band)
        return self.pairer.push(item)

    def _wait_s(self) -> float | None:
        """Live only: how long to wait for a frame before a waiting pair is decided without it."""
        if not self._live:
            return None
        deadline_ns = self.pairer.deadline_ns()
        left_s = STOP_POLL_S if deadline_ns is None else (deadline_ns - time.monotonic_ns()) / 1e9
        return min(STOP_POLL_S, max(0.0, left_s))

    def _note_unpaired_tail(self, inboxes: dict[Band, Mailbox[SourceItem]]) -> None:
        """Notes a recording that continues after the reference, which gives pairs their time, has ended."""
        if self._live or self.supervisor.stop.is_set():
            return
        for band, inbox in inboxes.items():
            try:
                while isinstance(item := inbox.get(), UnreadableFrame) and item.capture_ns is None:
                    self.pairer.log.unreadable(item)  # its place is not known: what a whole file lacks comes at its end
            except Closed:
                continue
            if isinstance(item, Disconnected):
                continue
            at = "" if item.capture_ns is None else f" at {item.capture_ns / 1e9:.3f} s"
            kind = "frame" if isinstance(item, Frame) else "damaged frame"
            self.pairer.log.skip(f"{band} continues after {band.other} ended", f"next {kind}{at}")

    def _register(self) -> None:
        try:
            busy = BusyTime(self.statistics, "register")
            for pair in self._drained(self._paired, busy):
                for transform in self._transforms:
                    pair = transform(pair)
                cropped = pair if self._crop is None else self._crop(pair)
                busy.completed()
                with busy:
                    self._registered.put(cropped)
                if self._drift is not None and self._drift.wants(pair):
                    if self._drift_inbox is None:
                        self._drift.check(pair)
                    else:
                        self._drift_inbox.put(pair)
        finally:
            self._registered.close()
            if self._drift_inbox is not None:
                self._drift_inbox.close()

    def _check_drift(self, inbox: Mailbox[FramePair]) -> None:
        assert self._drift is not None
        busy = BusyTime(self.statistics, "drift")
        for pair in self._drained(inbox, busy):
            self._drift.check(pair)
            busy.completed()

    def _fuse(self) -> None:
        fusion, inbox = self._fusion, self._registered
        try:
            if self._size is not None:
                self._fuser.prepare(*self._size)
            busy, ended = BusyTime(self.statistics, FUSION_STAGE), False
            while not ended or fusion.pending:
                try:
                    # with requests in flight, do not wait for more pairs: finish the oldest
                    if not ended and not fusion.full:
                        with busy:
                            pair = inbox.get(0.0 if fusion.pending else None)
                        fusion.submit(pair)
                        continue
                except TimeoutError:
                    pass  # nothing to submit: finish the oldest request
                except Closed:
                    ended = True
                if fusion.pending:
                    self._emit(fusion.finish(), busy)
        finally:
            for outbox in self._outbox:
                outbox.close()
            self._fusion.close()
            self._fuser.close()

    def _emit(self, frame: FusedFrame, busy: BusyTime) -> None:
        if self._overlay is not None:
            frame = self._overlay(frame)
        busy.completed()
        self.statistics.pair_fused(frame.state, frame.pair.skew_ns, time.monotonic_ns())
        with busy:
            for outbox in self._outbox:
                outbox.put(frame)

    def _written(self, frame: FusedFrame, now_ns: int) -> None:
        self.statistics.frame_written(now_ns - frame.pair.arrival_ns, now_ns)

    def _write(self, runner: SinkRunner) -> None:
        try:
            runner.run()
        except SinkError as error:
            if not runner.started or not self._continues_without(error):
                raise
            runner.drain()
        else:
            if runner.error is not None:  # the run ended while the sink was down
                with self._sink_lock:
                    self.sink_errors.append(runner.error)

    def _continues_without(self, error: SinkError) -> bool:
        """Live: the run continues without a sink that failed permanently, as long as another one is left."""
        with self._sink_lock:
            self.sink_errors.append(error)
            left = len(self._outbox) - len(self.sink_errors)
        if not self._live or not left or self.supervisor.stopped_early:
            return False
        log.error("%s: %s; continuing with the other sinks", self.name, error)
        return True

    @staticmethod
    def _drained(inbox: Mailbox[Any], busy: BusyTime) -> Any:
        """All items, until the producer closes the mailbox."""
        while True:
            try:
                with busy:
                    item = inbox.get()
            except Closed:
                return
            yield item


def require_pairs(graph: Graph, advice: str) -> None:
    """Raises :class:`SourceError`, with ``advice``, if a run that was not stopped fused no pair at all."""
    states = graph.statistics.states
    if states[str(PairState.FUSED)] or graph.supervisor.stopped_early:
        return
    log = graph.pairer.log
    skipped = ", ".join(f"{count} {reason}" for reason, count in log.skipped.items()) or "both streams were empty"
    first = f" ({log.notes[0]})" if log.notes else ""
    if not states:
        raise SourceError(f"{graph.name}: no pairs could be made: {skipped}{first}")
    counts = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    reasons = f"; {skipped}" if log.skipped else ""
    raise SourceError(f"{graph.name}: no pair was fused ({counts}{reasons}): {advice}")


__all__ = ["CAPACITY", "Cancelled", "Graph", "require_pairs"]
