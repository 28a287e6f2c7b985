"""Owns the threads of one graph: names them, stops all of them at the first failure, joins them.

There are two ways to end before the sources end:

``drain``  (SIGINT, ``--duration``, ``--max-pairs``) sources stop; frames in flight are finished and written; the sinks
           finalise their files.
``abort``  (a failure, or a drain that times out) all mailboxes are cancelled, which wakes all threads; the sinks still
           finalise what they have written.

A live camera's reader may be blocked in a network read that nothing can interrupt. It does not delay the end of the
run: it is left behind, and ends within its own timeout.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from fusepipe.core.errors import FusepipeError
from fusepipe.core.log_context import RIG_NAME
from fusepipe.pipeline.mailbox import Cancelled, Mailbox
from fusepipe.pipeline.sources.live.blocked_threads import leave_behind

log = logging.getLogger(__name__)

DRAIN_S = 5.0  # max duration of a drain before it becomes an abort
JOIN_S = 10.0  # max time for threads to end after an abort: finalising a file on a slow disk
BLOCKED_S = 0.7  # how long the end of a run waits for readers that may be blocked in the network


class Supervisor:
    """Runs named threads as one group. ``stop`` is set when the sources have to end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stop = threading.Event()
        self.stopped_early = False  # by drain or abort, rather than by the end of the sources or a limit
        self.left_behind: list[str] = []  # names of blocked readers that had not ended at the end of the run
        self.error: BaseException | None = None
        self.failed_thread = ""
        self.aborted = False
        self._mailboxes: list[Mailbox[Any]] = []
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._may_block: set[str] = set()  # names of the threads that the end of the run does not wait for
        self._blocked_until_s: float | None = None
        self._changed = threading.Condition()
        self._deadline_s: float | None = None

    def watch(self, mailboxes: Iterable[Mailbox[Any]]) -> None:
        """Adds mailboxes to cancel on abort."""
        self._mailboxes.extend(mailboxes)

    def spawn(self, name: str, target: Callable[[], None], *, may_block: bool = False) -> None:
        """Adds a thread, which :meth:`start` starts. ``may_block``: it is left behind if it outlives the others."""
        thread = threading.Thread(target=self._guard, args=(target,), name=f"{self.name}/{name}")
        self._threads.append(thread)
        if may_block:
            self._may_block.add(thread.name)

    def start(self) -> None:
        with self._changed:
            self._running = len(self._threads)
        for number, thread in enumerate(self._threads):
            try:
                thread.start()
            except RuntimeError as error:  # no more threads available
                with self._changed:
                    self._running -= len(self._threads) - number
                del self._threads[number:]
                self.abort(FusepipeError(f"{self.name}: cannot start {thread.name}: {error}"))
                return

    def end_sources(self) -> None:
        """Requests the sources to end, as no more frames are needed; what is in flight takes the time it needs."""
        with self._changed:
            self.stop.set()
            self._changed.notify_all()

    def drain(self) -> None:
        """Requests the sources to end; becomes an abort after ``DRAIN_S``."""
        with self._changed:
            if self._deadline_s is None:
                self._deadline_s = time.monotonic() + DRAIN_S
            self.stopped_early = True
        self.end_sources()

    def abort(self, error: BaseException | None = None) -> None:
        """Stops immediately; keeps the first error."""
        with self._changed:
            if error is not None and self.error is None:
                self.error = error
                self.failed_thread = threading.current_thread().name
            first, self.aborted = not self.aborted, True
            self.stopped_early = True
            self._deadline_s = time.monotonic() + JOIN_S if first else self._deadline_s
            self.stop.set()
            self._changed.notify_all()
        for mailbox in self._mailboxes:
            mailbox.cancel()

    @property
    def finished(self) -> bool:
        """Whether every thread has ended, or was left behind."""
        return self._running == 0 or bool(self.left_behind)

    def _ended(self) -> bool:
        """Whether nothing is left to wait for; locked."""
        if self.finished:
            return True
        alive = [thread for thread in self._threads if thread.is_alive()]
        if not alive or not self.stop.is_set() or not self._may_block.issuperset(thread.name for thread in alive):
            return False
        if self._blocked_until_s is None:
            self._blocked_until_s = time.monotonic() + BLOCKED_S
        if time.monotonic() < self._blocked_until_s:
            return False
        for thread in alive:
            leave_behind(thread)
        self.left_behind = [thread.name for thread in alive]
        return True

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until all threads have ended, or only blocked readers are left; ``False`` after ``timeout_s``.

        Turns a drain that takes too long into an abort. Raises :class:`FusepipeError`, with the names of the threads,
        if some do not end even then (a blocked system call).
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                if self._ended():
                    break
                ends = [t for t in (until_s, self._deadline_s, self._blocked_until_s) if t is not None]
                # bounded, so that signals reach a main thread that waits here
                self._changed.wait(max(0.0, min([*ends, time.monotonic() + 0.5]) - time.monotonic()))
                if self._ended():
                    break
                late = self._deadline_s is not None and time.monotonic() >= self._deadline_s
            if late and self.aborted:
                alive = ", ".join(t.name for t in self._threads if t.is_alive())
                because = f" (after: {self.error})" if self.error is not None else ""
                raise FusepipeError(f"threads did not end within {JOIN_S:g} s: {alive}{because}") from self.error
            if late:
                log.warning("%s: frames in flight did not finish within %g s; aborting", self.name, DRAIN_S)
                self.abort()
            elif until_s is not None and time.monotonic() >= until_s:
                return False
        for thread in self._threads:
            if thread.name not in self.left_behind:
                thread.join()
        if self.left_behind:
            log.info("%s: still blocked in a network read: %s", self.name, ", ".join(self.left_behind))
        return True

    def _guard(self, target: Callable[[], None]) -> None:
        RIG_NAME.set(self.name)
        try:
            target()
        except Cancelled:
            pass  # the run is being aborted: not a failure of this thread
        except BaseException as error:  # noqa: BLE001 - kept for the thread that waits
            self.abort(error)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
