"""One sink's life in a running graph: it is fed, and, live, started anew when it fails.

What failed is closed, frames that come meanwhile are dropped and counted, and after a wait that doubles with
each failure a new sink takes its place. Nobody waits for it: it has its own thread and mailbox. Not tried again:
what cannot be cured by trying (:class:`SinkSetupError`, :class:`OutputExistsError`, a wrong rig), a sink that
cannot be made anew, and any sink of a recording's run, which would have a hole that nobody sees and can be repeated.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fusepipe.core.errors import DiskFullError, FusepipeError, OutputExistsError, SinkError, SinkSetupError
from fusepipe.core.frames import FusedFrame
from fusepipe.pipeline.backoff import FULL_DISK, SINK, Backoff
from fusepipe.pipeline.mailbox import Cancelled, Closed, Mailbox
from fusepipe.pipeline.sinks.base import Sink, SinkReport, StartableSink

log = logging.getLogger(__name__)

S = 1_000_000_000
REMIND_NS = 600 * S  # how often a sink that fails in the same way again and again is spoken of

SinkFactory = Callable[[], Sink]
"""Makes a sink in place of one that failed. Raises what a new sink may raise."""


LASTING = (SinkSetupError, OutputExistsError)


class SinkRunner:
    """``written`` is told of each frame that the sink took; ``renew`` is ``None`` for a sink that lives only once."""

    def __init__(
        self,
        rig: str,
        sink: Sink,
        inbox: Mailbox[FusedFrame],
        *,
        live: bool,
        renew: SinkFactory | None,
        written: Callable[[FusedFrame], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.sink = sink
        self.label = sink.label
        self.begun = False  # the first sink was there before its first frame
        self.error: SinkError | None = None  # while it is away, and for good when it was given up
        self.given_up = False
        self.failures = self.restarts = self.missed = 0
        self.report: SinkReport | None = None  # of all sinks in this place that were closed
        self._rig = rig
        self._inbox = inbox
        self._live = live
        self._renew = renew
        self._written = written
        self._chance = chance
        self._backoff = Backoff(SINK)
        self._delivers_ns: int | None = None  # since when the sink takes frames
        self._away_ns = 0
        self._told: tuple[type[SinkError], int] | None = None
        self._anew = threading.Event()

    @property
    def renewable(self) -> bool:
        return self._live and self._renew is not None and not self.given_up

    def start_anew(self) -> None:
        """Puts a new sink in the place of this one after the next frame, also where it is away; from any thread."""
        self._anew.set()

    def run(self) -> None:
        """Until the mailbox is closed. Raises :class:`SinkError` when the sink fails for good.

        Where the run ends while the sink is away, ``error`` says why it was.
        """
        error = self._live_through(self.sink)
        while True:
            if error is None:
                if self._inbox.finished or not self._anew.is_set():
                    return
            else:
                self._note_failure(error)
                if not self._may_try_again(error):
                    self.given_up = True
                    raise error
                if not self._wait(self._tell(error)):
                    return
            self._anew.clear()
            error = self._try_again()

    def drain(self) -> None:
        """Takes what comes, for a sink that was given up, until the mailbox is closed."""
        self._wait(None)

    def status(self) -> dict[str, Any]:
        """For the record: plain values."""
        return {
            "sink": self.label,
            "up": self.error is None,
            "failures": self.failures,
            "restarts": self.restarts,
            "missed": self.missed,
            "error": None if self.error is None else str(self.error),
        }

    # -- one sink

    def _live_through(self, sink: Sink) -> SinkError | None:
        """Feeds a sink until the mailbox is closed, or until it fails: then why."""
        try:
            try:
                if isinstance(sink, StartableSink):
                    sink.start()
                self.begun = True
                self._feed(sink)
            finally:
                self._add(sink.close())
        except Cancelled:
            raise
        except SinkError as error:
            if not self.begun:
                raise  # a port that is taken is known at once
            return error
        except Exception as error:
            if not self.begun or not self._live:
                raise
            # whatever it is, it is this sink's alone
            log.debug("%s: %s", self._rig, self.label, exc_info=error)
            failure = SinkError(f"{self.label}: {type(error).__name__}: {error}")
            failure.__cause__ = error
            return failure
        return None

    def _feed(self, sink: Sink) -> None:
        self._delivers_ns = None
        while not self._anew.is_set():
            try:
                frame = self._inbox.get()
            except Closed:
                return
            sink.write(frame)
            self._written(frame)
            if self._delivers_ns is None:
                self._delivers_ns = time.monotonic_ns()
                self._note_return()

    def _add(self, report: SinkReport) -> None:
        before = self.report
        if before is not None:
            report = replace(report, frames=before.frames + report.frames, bytes=before.bytes + report.bytes)
        self.report = report

    # -- failing and coming back

    def _may_try_again(self, error: SinkError) -> bool:
        return self.renewable and not self._inbox.finished and not isinstance(error, LASTING)

    def _try_again(self) -> SinkError | None:
        assert self._renew is not None
        try:
            self.sink = self._renew()
        except SinkError as error:
            return error
        except FusepipeError as error:
            failure = SinkSetupError(f"{self.label}: {error}")
            failure.__cause__ = error
            return failure
        return self._live_through(self.sink)

    def _note_failure(self, error: SinkError) -> None:
        now_ns = time.monotonic_ns()
        if self._delivers_ns is not None:
            self._backoff.delivered(now_ns - self._delivers_ns)
            self._delivers_ns = None
        self._away_ns = now_ns if self.error is None else self._away_ns
        self.error = error
        self.failures += 1

    def _note_return(self) -> None:
        if self.error is None:
            return
        away_s = (time.monotonic_ns() - self._away_ns) / S
        log.info("%s: %s writes again after %.1f s", self._rig, self.label, away_s)
        self.error, self._told = None, None
        self.restarts += 1

    def _tell(self, error: SinkError) -> int:
        """Says why the sink failed, and for how long to wait, in nanoseconds."""
        policy = FULL_DISK if isinstance(error, DiskFullError) else None
        wait_ns = self._backoff.wait_ns(self._chance(), policy)
        now_ns = time.monotonic_ns()
        if self._told is None or self._told[0] is not type(error) or now_ns - self._told[1] > REMIND_NS:
            self._told = (type(error), now_ns)
            log.error("%s: %s; the other outputs go on, it is tried again in %.1f s", self._rig, error, wait_ns / S)
        return wait_ns

    def _wait(self, wait_ns: int | None) -> bool:
        """Drops frames for so long, or until a new sink is asked for; ``False`` when the mailbox is closed."""
        until_ns = None if wait_ns is None else time.monotonic_ns() + wait_ns
        while until_ns is None or time.monotonic_ns() < until_ns:
            try:
                self._inbox.get(None if until_ns is None else max(0.0, (until_ns - time.monotonic_ns()) / S))
            except TimeoutError:
                return True
            except Closed:
                return False
            self.missed += 1
            if until_ns is not None and self._anew.is_set():
                return True
        return True
