"""Feeds one sink of a running graph and, in live rigs, restarts it after a failure.

A failed sink is closed; frames that arrive meanwhile are dropped and counted; after a back-off a new sink takes its
place. The sink has its own thread and mailbox, so no other stage waits for it. Not restarted: failures that retrying
cannot fix (:class:`SinkSetupError`, :class:`OutputExistsError`, an invalid rig), sinks without a factory, and all sinks
of recordings: an unnoticed gap in the output would be worse than running the conversion again.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from fusepipe.core.errors import DiskFullError, FusepipeError, OutputExistsError, SinkError, SinkSetupError
from fusepipe.core.frames import FusedFrame
from fusepipe.core.units import S
from fusepipe.pipeline.backoff import FULL_DISK, SINK, Backoff, BackoffPolicy
from fusepipe.pipeline.mailbox import Cancelled, Closed, Mailbox
from fusepipe.pipeline.measures.recent import RecentSum
from fusepipe.pipeline.measures.run_statistics import StageLoad
from fusepipe.pipeline.sinks.base import Sink, SinkReport, StartableSink

log = logging.getLogger(__name__)

REPEAT_LOG_NS = 600 * S  # min time between log lines about a sink that keeps failing for the same reason
PERMANENT = (SinkSetupError, OutputExistsError)

SinkFactory = Callable[[], Sink]
"""Makes the replacement of a failed sink; raises what making a sink may raise."""


class SinkRunner:
    """``factory`` is ``None`` for a sink that is not restarted; ``written`` is called with each frame written
    and the time, of the host's monotonic clock. ``view`` makes what the sink gets of a frame.

    ``chance`` gives numbers from 0 to 1 for the jitter of the back-off.
    """

    def __init__(
        self,
        rig: str,
        sink: Sink,
        inbox: Mailbox[FusedFrame],
        *,
        live: bool,
        factory: SinkFactory | None,
        written: Callable[[FusedFrame, int], None],
        view: Callable[[FusedFrame], FusedFrame] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.sink = sink
        self.label = sink.label
        self.started = False  # the first sink started without an error
        self.error: SinkError | None = None  # while the sink is down; stays after a permanent failure
        self.failed_permanently = False
        self.failures = self.restarts = self.missed = self.frames = 0
        self._rate, self._load = RecentSum(), StageLoad()
        self.report: SinkReport | None = None  # the sum over all sinks closed in this place
        self._rig = rig
        self._inbox = inbox
        self._live = live
        self._factory = factory
        self._written = written
        self._view = view
        self._chance = chance
        self._backoff = Backoff(SINK)
        self._first_write_ns: int | None = None  # of the current sink
        self._down_since_ns = 0
        self._last_logged: tuple[type[SinkError], int] | None = None  # error class, time
        self._restart = threading.Event()

    @property
    def restartable(self) -> bool:
        return self._live and self._factory is not None and not self.failed_permanently

    def request_restart(self) -> None:
        """Replaces the sink after the next frame, or ends the back-off if it is down; from any thread."""
        self._restart.set()

    def run(self) -> None:
        """Runs until the mailbox is closed. Raises :class:`SinkError` when the sink fails permanently.

        If the run ends while the sink is down, ``error`` holds the reason.
        """
        error = self._run_sink(self.sink)
        while True:
            if error is None:
                if self._inbox.finished or not self._restart.is_set():
                    return
            else:
                self._note_failure(error)
                if not self._may_retry(error):
                    self.failed_permanently = True
                    raise error
                wait_ns = self._backoff.wait_ns(self._chance(), backoff_policy(error))
                self._log_failure(error, wait_ns)
                if not self._discard_frames(wait_ns):
                    return
            self._restart.clear()
            error = self._run_replacement()

    def drain(self) -> None:
        """Discards frames until the mailbox is closed; for a sink that failed permanently."""
        self._discard_frames(None)

    def status(self) -> dict[str, Any]:
        """For the record: plain values."""
        return {
            "sink": self.label,
            "up": self.error is None,
            "frames": self.frames,
            "failures": self.failures,
            "restarts": self.restarts,
            "missed": self.missed,
            "error": None if self.error is None else str(self.error),
        }

    def recent(self, now_ns: int) -> dict[str, Any]:
        """``frames_per_s`` over ten seconds, and the mean time per frame, ``frame_ms`` (``None`` without frames)."""
        frame_ms = self._load.frame_ms(now_ns)
        return {
            "frames_per_s": round(self._rate.per_s(now_ns), 2),
            "frame_ms": None if frame_ms is None else round(frame_ms, 2),
        }

    # -- one sink

    def _run_sink(self, sink: Sink) -> SinkError | None:
        """Feeds a sink until the mailbox is closed; returns the error if it fails."""
        try:
            try:
                if isinstance(sink, StartableSink):
                    sink.start()
                self.started = True
                self._rate.begin(time.monotonic_ns())
                self._feed(sink)
            finally:
                closed = sink.close()
                self.report = closed if self.report is None else self.report.followed_by(closed)
        except Cancelled:
            raise
        except SinkError as error:
            if not self.started:
                raise  # such as a port that is in use: reported when the run starts
            return error
        except Exception as error:
            if not self.started or not self._live:
                raise
            # a defect of this sink does not concern the others
            log.debug("%s: %s", self._rig, self.label, exc_info=error)
            failure = SinkError(f"{self.label}: {type(error).__name__}: {error}")
            failure.__cause__ = error
            return failure
        return None

    def _feed(self, sink: Sink) -> None:
        self._first_write_ns = None
        while not self._restart.is_set():
            try:
                frame = self._inbox.get()
            except Closed:
                return
            begun_ns = time.monotonic_ns()
            sink.write(frame if self._view is None else self._view(frame))
            now_ns = time.monotonic_ns()
            self._note_written(frame, now_ns, now_ns - begun_ns)
            if self._first_write_ns is None:
                self._first_write_ns = time.monotonic_ns()
                self._note_recovery()

    def _note_written(self, frame: FusedFrame, now_ns: int, busy_ns: int) -> None:
        self.frames += 1
        self._rate.add(now_ns)
        self._load.add(now_ns, busy_ns, 1)
        self._written(frame, now_ns)

    # -- failure and recovery

    def _may_retry(self, error: SinkError) -> bool:
        return self.restartable and not self._inbox.finished and not isinstance(error, PERMANENT)

    def _run_replacement(self) -> SinkError | None:
        assert self._factory is not None
        try:
            self.sink = self._factory()
        except SinkError as error:
            return error
        except FusepipeError as error:
            failure = SinkSetupError(f"{self.label}: {error}")
            failure.__cause__ = error
            return failure
        return self._run_sink(self.sink)

    def _note_failure(self, error: SinkError) -> None:
        now_ns = time.monotonic_ns()
        if self._first_write_ns is not None:
            self._backoff.delivered(now_ns - self._first_write_ns)
            self._first_write_ns = None
        self._down_since_ns = now_ns if self.error is None else self._down_since_ns
        self.error = error
        self.failures += 1

    def _note_recovery(self) -> None:
        if self.error is None:
            return
        down_s = (time.monotonic_ns() - self._down_since_ns) / S
        log.info("%s: %s: recovered after %.1f s", self._rig, self.label, down_s)
        self.error, self._last_logged = None, None
        self.restarts += 1

    def _log_failure(self, error: SinkError, wait_ns: int) -> None:
        now_ns, last = time.monotonic_ns(), self._last_logged
        if last is None or last[0] is not type(error) or now_ns - last[1] > REPEAT_LOG_NS:
            self._last_logged = (type(error), now_ns)
            log.error("%s: %s; other outputs continue, retrying in %.1f s", self._rig, error, wait_ns / S)

    def _discard_frames(self, wait_ns: int | None) -> bool:
        """Discards frames for ``wait_ns`` or until a restart is requested; ``False`` if the mailbox is closed."""
        until_ns = None if wait_ns is None else time.monotonic_ns() + wait_ns
        while until_ns is None or time.monotonic_ns() < until_ns:
            try:
                self._inbox.get(None if until_ns is None else max(0.0, (until_ns - time.monotonic_ns()) / S))
            except TimeoutError:
                return True
            except Closed:
                return False
            self.missed += 1
            if until_ns is not None and self._restart.is_set():
                return True
        return True


def backoff_policy(error: SinkError) -> BackoffPolicy:
    """A full disk takes longer to recover from than a lost connection."""
    return FULL_DISK if isinstance(error, DiskFullError) else SINK
