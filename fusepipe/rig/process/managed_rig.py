"""One of the rigs of a process: its start, retries of a failed one, its run, its status and its report.

::

    starting --> running <--> degraded --> stopped
        \\           \\-----------------> failed (ended with an error)
         \\--> failed (could not start) --> running
                  after a back-off, or on a reload

One thread calls all methods except :meth:`ManagedRig.status`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from fusepipe.core.errors import FusepipeError, message_lines
from fusepipe.core.rig_state import RigState, RigStatus
from fusepipe.pipeline.backoff import RIG_START, Backoff
from fusepipe.rig.factories.live_sinks import list_on_previews
from fusepipe.rig.process.progress import line
from fusepipe.rig.process.start import StartThread, retry_policy, with_rig_name
from fusepipe.rig.process.systemd import StallDetector
from fusepipe.rig.report.run_report import RunReport, report_of_failed_start

if TYPE_CHECKING:
    from fusepipe.config.schema import Rig
    from fusepipe.rig.api import Pipeline

log = logging.getLogger(__name__)

STALL_LIMIT_S = 20.0  # longer than detecting a lost camera takes; the first engine compiles within it
REPEAT_LOG_S = 600.0  # min time between log lines about a rig that cannot start for the same reason


class ManagedRig:
    """``changed`` is called from the thread that starts it, when that is done; ``alone``: there are no other rigs.

    ``chance`` gives numbers from 0 to 1 for the jitter of the back-off.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        changed: Callable[[], None],
        *,
        alone: bool = False,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.pipeline = pipeline
        self.error: FusepipeError | None = None  # of the last failed start, or of the run
        self.stuck = False  # a thread of the run hangs in a system call
        self.alone = alone
        self._changed, self._chance = changed, chance
        self._status = RigStatus(RigState.STARTING)
        self._start: StartThread | None = None
        self._started = False  # once, also if it has ended
        self._reloaded: Rig | None = None  # settings that came while it was starting
        self._backoff = Backoff(RIG_START)
        self._retry_s: float | None = None  # monotonic time of the next attempt
        self._down_since_s = time.monotonic()
        self._last_logged: tuple[str, float] | None = None  # message, time
        self._stall = StallDetector(STALL_LIMIT_S)
        self._pages = ExitStack()
        self._page_lines: list[str] = []
        self._announcements: list[str] = []
        self._listed = False

    @property
    def name(self) -> str:
        return self.pipeline.rig.name

    @property
    def starting(self) -> bool:
        """Whether it starts for the first time, or after a reload; not while a failed start is retried."""
        return self._status.state is RigState.STARTING

    @property
    def running(self) -> bool:
        return self._status.state is RigState.RUNNING

    def status(self) -> RigStatus:
        """What it does now; from any thread."""
        status = self._status
        if status.state is not RigState.RUNNING:
            return status
        return replace(self.pipeline.status(), failed_starts=status.failed_starts)

    def lines(self) -> list[str]:
        """Its progress line; empty before its start."""
        if self._started:
            return [line(self.pipeline)]
        return [f"{self.name}: failed: {'; '.join(self._status.reasons)}"] if self.error is not None else []

    # -- start

    def begin(self) -> None:
        """Lists it on its preview pages, for as long as the process runs, and begins to open the pipeline."""
        self._retry_s = None
        try:
            if not self._listed:
                self._page_lines = list_on_previews(self.pipeline.rig, self.status, self._pages)
                self._listed = True
            self._start = StartThread(self.pipeline, self._changed)
        except (FusepipeError, OSError, RuntimeError) as error:  # no port, or no more threads available
            self._note_failed_start(error)

    def take_announcements(self) -> list[str]:
        """The addresses of its outputs when it has just started, and those of its pages after its first failed start:
        a page is open even if no rig of it runs."""
        lines, self._announcements = self._announcements, []
        return lines

    def advance(self, now_s: float) -> None:
        """Takes the result of a start, or begins one that is due."""
        if self._start is None:
            if self._retry_s is not None and now_s >= self._retry_s:
                self.begin()
            return
        if not self._start.finished:
            return
        start, self._start = self._start, None
        try:
            start.raise_error()
            self.pipeline.start()
        except Exception as error:  # noqa: BLE001 - a defect of one rig does not concern the others
            self.pipeline.close()
            self._note_failed_start(error)
            return
        self._note_start()

    def _note_start(self) -> None:
        self._started, self.error = True, None
        self._announcements = self.pipeline.announcements()
        failures = self._status.failed_starts
        if failures:
            log.info("%s: started after %.1f s", self.name, time.monotonic() - self._down_since_s)
        self._status = RigStatus(RigState.RUNNING, failed_starts=failures)
        if self._reloaded is not None:
            for text in self.pipeline.reconfigure(self._reloaded):
                log.info("reload: %s", text)
            self._reloaded = None

    def _note_failed_start(self, error: BaseException) -> None:
        policy = retry_policy(self.pipeline.rig, error)
        wait_s = None if policy is None else self._backoff.wait_ns(self._chance(), policy) / 1e9
        self.error = with_rig_name(self.pipeline.rig, error)
        self.pipeline = self.pipeline.again(self._reloaded or self.pipeline.rig)
        self._status = RigStatus(
            RigState.FAILED,
            self._reasons(),
            failed_starts=self._status.failed_starts + 1,
            retry_at_s=None if wait_s is None else time.time() + wait_s,
        )
        if not self.alone and self._status.failed_starts == 1:
            self._announcements = self._page_lines
        self._log_failed_start(wait_s)
        self._retry_s = None if wait_s is None else time.monotonic() + wait_s
        if self._reloaded is not None:
            self._reloaded = None
            self.begin()

    def _log_failed_start(self, wait_s: float | None) -> None:
        message, now_s, last = str(self.error), time.monotonic(), self._last_logged
        if self.alone or (last is not None and last[0] == message and now_s - last[1] < REPEAT_LOG_S):
            return
        self._last_logged = message, now_s
        for text in message_lines(self.error or FusepipeError(message)):
            log.error("%s", text)
        retry = "not retried before a reload" if wait_s is None else f"retrying in {wait_s:.1f} s"
        log.error("%s: cannot start; %s", self.name, retry)

    def _reasons(self) -> tuple[str, ...]:
        assert self.error is not None
        return tuple(text.removeprefix(f"{self.name}: ") for text in message_lines(self.error))

    # -- run

    def wait(self, timeout_s: float) -> bool:
        """Whether its run has ended within ``timeout_s``, well or with an error."""
        try:
            if not self.pipeline.wait(timeout_s):
                return False
            self.pipeline.raise_error()
        except FusepipeError as error:
            self.stuck = not self.pipeline.finished
            self.error = with_rig_name(self.pipeline.rig, error)
            self._status = replace(self._status, state=RigState.FAILED, reasons=self._reasons())
            if not self.alone:
                for text in message_lines(self.error):
                    log.error("%s", text)
        else:
            self._status = replace(self._status, state=RigState.STOPPED)
        return True

    def reload(self, rig: Rig) -> list[str]:
        """Applies new settings: to its run, or by starting it with them if it could not start."""
        if self.running:
            return self.pipeline.reconfigure(rig)
        if self._started:
            return [f"{self.name}: has ended: needs a restart"]
        if self._start is not None:
            self._reloaded = rig
            return [f"{self.name}: is starting; the settings are applied then"]
        self.pipeline = self.pipeline.again(rig)
        self._status = replace(self._status, state=RigState.STARTING, reasons=(), retry_at_s=None)
        self._backoff, self._last_logged = Backoff(RIG_START), None
        self._pages.close()  # whose address may have changed
        self._listed = False
        self.begin()
        return [f"{self.name}: starting with the new settings"]

    def stalled(self, now_s: float) -> bool:
        """Whether it is live, runs and delivers no frames: its output never pauses, so the watchdog must act."""
        stalled = self._stall.stalled(self.pipeline.statistics.fused, now_s)
        return stalled and self.running and self.pipeline.live

    # -- end

    def stop(self, timeout_s: float) -> None:
        """Drains its run, the second time aborts it; a start is abandoned after ``timeout_s``."""
        if self.running:
            self.pipeline.interrupt()
        self.give_up_start(timeout_s)

    def give_up_start(self, timeout_s: float) -> None:
        """Ends attempts to start, those in progress after ``timeout_s``."""
        self._retry_s = None
        if self._start is not None:
            self._start.abandon(timeout_s)
            self._start = None
        if self.starting:
            self._status = replace(self._status, state=RigState.STOPPED)

    def close(self) -> None:
        """Removes it from its preview pages."""
        self._pages.close()

    def report(self) -> RunReport | None:
        """Of its run, or of its failed start; ``None`` if it was stopped before it had started."""
        if not self._started:
            return None if self.error is None else report_of_failed_start(self.name, self._status, str(self.error))
        report = self.pipeline.report()
        if self.error is None:
            return replace(report, status=self.status())
        return replace(report, status=self.status(), ok=False, error=report.error or str(self.error))
