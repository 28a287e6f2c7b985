"""Wires the stages with bounded mailboxes and runs them: one thread a source, stage and sink.

::

    read-infrared --> [infrared] --\\
                                    pair --> [paired] --> register --> [registered] --> fuse --> [sink-1] --> write-1
    read-visible  --> [visible]  --/                                                        \\-> [sink-2] --> write-2

Each stage only sees its mailboxes; the names in brackets are theirs. A drift watch gets registered pairs
at a low rate through a mailbox of its own, [drift].
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fusepipe.core.errors import SinkError, SourceError
from fusepipe.core.frames import Band, Frame, FramePair, FusedFrame
from fusepipe.core.fuser import Fuser
from fusepipe.pipeline.mailbox import Cancelled, Closed, Mailbox, get_any
from fusepipe.pipeline.pairing.pairer import Pairer
from fusepipe.pipeline.sinks.base import Sink, SinkReport
from fusepipe.pipeline.sinks.runner import SinkFactory, SinkRunner
from fusepipe.pipeline.sources.base import Overflow, Source, SourceItem
from fusepipe.pipeline.stages.drift_watch import DriftWatch
from fusepipe.pipeline.stages.fusion import FusionStep
from fusepipe.pipeline.statistics import RunStatistics
from fusepipe.pipeline.supervisor import Supervisor

log = logging.getLogger(__name__)

LIVE_CAPACITY = 1  # pairs of live cameras that wait for a late stage: the newest count
LOOK_S = 0.2  # how often the pairing of live cameras looks whether the run shall end
BURST = 8  # what comes at once may be so much more: see Mailbox
CAPACITY = 4  # frames a mailbox holds: enough to even out jitter, little enough to keep latency low


@dataclass(frozen=True, slots=True)
class RunLimits:
    """When to stop before the sources do: after so many pairs, or so much capture time."""

    max_pairs: int | None = None
    duration_ns: int | None = None


class Graph:
    """One rig's running pipeline. ``start`` it, ``wait`` for it; ``drain`` ends it early, ``abort`` now.

    ``transforms`` are applied to each pair in order (registration, tone mapping), ``framing`` to what is fused of it:
    a drift watch sees the whole picture. The graph closes the sources, the fuser and the sinks. ``size`` is the
    (height, width) the fuser is prepared for, where it is known; ``finishing`` is applied to each fused frame, once
    for all sinks. ``renew`` makes a new sink in place of one that failed, for each of ``sinks``; ``None`` for those
    that cannot be made anew.
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
        framing: Callable[[FramePair], FramePair] | None = None,
        finishing: Callable[[FusedFrame], FusedFrame] | None = None,
        renew: Sequence[SinkFactory | None] = (),
    ) -> None:
        self.name = name
        self.statistics = statistics
        self.pairer = pairer
        self.sink_errors: list[SinkError] = []  # of sinks that failed and were left out
        self._sink_lock = threading.Lock()
        self.supervisor = Supervisor(name)
        self._fuser = fuser
        self._fusion = fusion
        self._size = size
        self._framing = framing
        self._finishing = finishing
        self._transforms = transforms
        self._limits = limits or RunLimits()
        self._live = any(source.clock == "wall" for source in sources)
        arrivals = threading.Condition()  # one for both streams: pairing waits for either
        self._inbox: dict[Band, Mailbox[SourceItem]] = {
            s.band: Mailbox(str(s.band), CAPACITY, s.overflow, arrivals, burst=BURST) for s in sources
        }
        overflow = Overflow.DROP_OLDEST if self._live else Overflow.BLOCK
        between = LIVE_CAPACITY if self._live else CAPACITY
        self._paired: Mailbox[FramePair] = Mailbox("paired", between, overflow, burst=BURST)
        self._registered: Mailbox[FramePair] = Mailbox("registered", between, overflow, burst=BURST)
        self._outbox: list[Mailbox[FusedFrame]] = [
            Mailbox(f"sink-{i + 1}", CAPACITY, overflow, burst=BURST) for i in range(len(sinks))
        ]
        self._drift = drift
        self._watched: Mailbox[FramePair] | None = None
        # a correction has to come at the same frame in every run of a recording: no thread of its own then
        if drift is not None and (self._live or drift.mode == "watch"):
            self._watched = Mailbox("drift", 1 if self._live else CAPACITY, overflow)
        watched = [] if self._watched is None else [self._watched]
        everything: list[Mailbox[Any]] = [
            *self._inbox.values(),
            self._paired,
            self._registered,
            *self._outbox,
            *watched,
        ]
        self.mailboxes: dict[str, Mailbox[Any]] = {m.name: m for m in everything}
        self.supervisor.watch(everything)
        for source in sources:
            self._spawn(f"read-{source.band}", self._read, source)
        self._spawn("pair", self._pair)
        self._spawn("register", self._register)
        if self._watched is not None:
            self._spawn("drift", self._watch_drift, self._watched)
        self._spawn("fuse", self._fuse)
        self.runners = [
            SinkRunner(name, sink, outbox, live=self._live, renew=again, written=self._written)
            for sink, outbox, again in zip(sinks, self._outbox, renew or [None] * len(sinks), strict=True)
        ]
        for number, runner in enumerate(self.runners, 1):
            self._spawn(f"write-{number}", self._write, runner)

    # -- life

    def start(self) -> None:
        self.supervisor.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """``False`` while it still runs after ``timeout_s``; does not raise the graph's own error."""
        return self.supervisor.wait(timeout_s)

    def drain(self) -> None:
        self.supervisor.drain()

    def abort(self) -> None:
        self.supervisor.abort()

    @property
    def sink_reports(self) -> list[SinkReport]:
        """Of the sinks that were closed."""
        return [runner.report for runner in self.runners if runner.report is not None]

    def sink_states(self) -> list[dict[str, Any]]:
        """Of each sink: whether it is up, how often it failed and was started anew, what it missed."""
        return [runner.status() for runner in self.runners]

    @property
    def error(self) -> BaseException | None:
        """What ended the run early, or, when it is over, why a sink was left out of it."""
        if self.supervisor.error is None and self.sink_errors and self.supervisor.finished:
            return self.sink_errors[0]
        return self.supervisor.error

    def dropped(self) -> dict[str, int]:
        """Frames that live mailboxes dropped because the next stage was late, by mailbox."""
        return {name: box.dropped for name, box in self.mailboxes.items() if box.dropped}

    def depths(self) -> dict[str, int]:
        return {name: box.depth for name, box in self.mailboxes.items()}

    # -- stages, one thread each

    def _spawn(self, name: str, target: Callable[..., None], *args: Any) -> None:
        def run() -> None:
            self.statistics.stage_began(name)
            try:
                target(*args)
            finally:
                self.statistics.stage_ended(name)

        self.supervisor.spawn(name, run)

    def _read(self, source: Source) -> None:
        inbox = self._inbox[source.band]
        try:
            for item in source.frames(self.supervisor.stop):
                self.statistics.frame_read(source.band)
                inbox.put(item)
        finally:
            inbox.close()
            source.close()

    def _pair(self) -> None:
        pairer, open_boxes = self.pairer, dict(self._inbox)
        first_ns: int | None = None
        made = 0
        try:
            while (wanted := pairer.wants()) is not None and open_boxes:
                if self._live and self.supervisor.stop.is_set():
                    return  # a silent camera's reader may take its stall timeout to end; the output need not wait
                boxes = list(open_boxes.values()) if self._live else [open_boxes[wanted]]
                try:
                    _, item = get_any(boxes, self._patience_s())
                    pairs = pairer.push(item)
                except TimeoutError:
                    pairs = pairer.expire(time.monotonic_ns())
                except Closed as closed:
                    band = Band(closed.args[0].name)
                    del open_boxes[band]
                    pairs = pairer.end(band)
                for pair in pairs:
                    first_ns = pair.lead.capture_ns if first_ns is None else first_ns
                    if self._past_limit(made, pair.lead.capture_ns - first_ns):
                        return
                    self.statistics.pair_made(pair.state, pair.skew_ns)
                    self._paired.put(pair)
                    made += 1
                if self._past_limit(made, 0):
                    return
            self._note_tail(open_boxes)
        finally:
            self._paired.close()
            for box in self._inbox.values():
                box.cancel()  # the readers need not go on

    def _past_limit(self, pairs: int, media_ns: int) -> bool:
        limits = self._limits
        return (limits.max_pairs is not None and pairs >= limits.max_pairs) or (
            limits.duration_ns is not None and media_ns >= limits.duration_ns
        )

    def _patience_s(self) -> float | None:
        """Live only: how long to wait for a frame before a waiting pair is decided without it."""
        if not self._live:
            return None
        deadline_ns = self.pairer.deadline_ns()
        left_s = LOOK_S if deadline_ns is None else (deadline_ns - time.monotonic_ns()) / 1e9
        return min(LOOK_S, max(0.0, left_s))

    def _note_tail(self, open_boxes: dict[Band, Mailbox[SourceItem]]) -> None:
        """Says so when one recording goes on after the other, which gives pairs their time, has ended."""
        if self._live or self.supervisor.stop.is_set():
            return
        for band, box in open_boxes.items():
            try:
                item = box.get()
            except Closed:
                continue
            at = "" if item.capture_ns is None else f" from {item.capture_ns / 1e9:.3f} s on"
            kind = "frame" if isinstance(item, Frame) else "damaged frame"
            self.pairer.log.skip(f"{band} goes on after {band.other} ended", f"next {kind}{at}")

    def _register(self) -> None:
        try:
            for pair in self._drained(self._paired):
                for transform in self._transforms:
                    pair = transform(pair)
                self._registered.put(pair if self._framing is None else self._framing(pair))
                if self._drift is not None and self._drift.wants(pair):
                    if self._watched is None:
                        self._drift.check(pair)
                    else:
                        self._watched.put(pair)
        finally:
            self._registered.close()
            if self._watched is not None:
                self._watched.close()

    def _watch_drift(self, inbox: Mailbox[FramePair]) -> None:
        assert self._drift is not None
        for pair in self._drained(inbox):
            self._drift.check(pair)

    def _fuse(self) -> None:
        fusion, inbox = self._fusion, self._registered
        try:
            if self._size is not None:
                self._fuser.prepare(*self._size)
            ended = False
            while not ended or fusion.pending:
                try:
                    # with work under way, do not wait for more: finish what is there
                    if not ended and not fusion.full:
                        fusion.submit(inbox.get(0.0 if fusion.pending else None))
                        continue
                except TimeoutError:
                    pass  # nothing to start: finish what is there
                except Closed:
                    ended = True
                if fusion.pending:
                    self._emit(fusion.finish())
        finally:
            for outbox in self._outbox:
                outbox.close()
            self._fuser.close()

    def _emit(self, frame: FusedFrame) -> None:
        self.statistics.pair_fused()
        if self._finishing is not None:
            frame = self._finishing(frame)
        for outbox in self._outbox:
            outbox.put(frame)

    def _written(self, frame: FusedFrame) -> None:
        self.statistics.frame_written(time.monotonic_ns() - frame.pair.arrival_ns)

    def _write(self, runner: SinkRunner) -> None:
        try:
            runner.run()
        except SinkError as error:
            if not runner.begun or not self._goes_on_without(error):
                raise
            runner.drain()
        else:
            if runner.error is not None:  # the run ended while it was away
                with self._sink_lock:
                    self.sink_errors.append(runner.error)

    def _goes_on_without(self, error: SinkError) -> bool:
        """Live: a sink that fails for good is left out while another is there; the end of the run says why."""
        with self._sink_lock:
            self.sink_errors.append(error)
            left = len(self._outbox) - len(self.sink_errors)
        if not self._live or not left or self.supervisor.stop.is_set():
            return False
        log.error("%s: %s; going on with the other sinks", self.name, error)
        return True

    @staticmethod
    def _drained(inbox: Mailbox[Any]) -> Any:
        """Everything that comes, until the producer closes it."""
        while True:
            try:
                yield inbox.get()
            except Closed:
                return


def require_pairs(graph: Graph) -> None:
    """Raises :class:`SourceError` when a run that nobody stopped made not one pair, with the likely cause."""
    if graph.statistics.states or graph.supervisor.stop.is_set():
        return
    log = graph.pairer.log
    skipped = ", ".join(f"{count} {reason}" for reason, count in log.skipped.items()) or "both streams were empty"
    first = f" ({log.notes[0]})" if log.notes else ""
    raise SourceError(f"{graph.name}: not one pair could be made: {skipped}{first}")


__all__ = ["CAPACITY", "Cancelled", "Graph", "RunLimits", "require_pairs"]
