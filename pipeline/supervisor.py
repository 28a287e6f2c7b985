"""Owns the threads of one graph: names them, stops all of them at the first failure, joins them.

There are two ways to end before the sources end:

``drain``  (SIGINT, ``--duration``, ``--max-pairs``) sources stop; frames in flight are finished and written; the sinks
           finalise their files.
``abort``  (a failure, or a drain that times out) all mailboxes are cancelled, which wakes all threads; the sinks still
           finalise what they have written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from fusepipe.core.errors import FusepipeError
from fusepipe.pipeline.mailbox import Cancelled, Mailbox

log = logging.getLogger(__name__)

DRAIN_S = 5.0  # max duration of a drain before it becomes an abort
JOIN_S = 10.0  # max time for threads to end after an abort: finalising a file on a slow disk


class Supervisor:
    """Runs named threads as one group. ``stop`` is set when the sources have to end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.failed_thread = ""
        self.aborted = False
        self._mailboxes: list[Mailbox[Any]] = []
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._changed = threading.Condition()
        self._deadline_s: float | None = None

    def watch(self, mailboxes: Iterable[Mailbox[Any]]) -> None:
        """Adds mailboxes to cancel on abort."""
        self._mailboxes.extend(mailboxes)

    def spawn(self, name: str, target: Callable[[], None]) -> None:
        """Adds a thread, which :meth:`start` starts."""
        self._threads.append(threading.Thread(target=self._guard, args=(target,), name=f"{self.name}/{name}"))

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

    def drain(self) -> None:
        """Requests the sources to end; becomes an abort after ``DRAIN_S``."""
        with self._changed:
            if self._deadline_s is None:
                self._deadline_s = time.monotonic() + DRAIN_S
            self.stop.set()
            self._changed.notify_all()

    def abort(self, error: BaseException | None = None) -> None:
        """Stops immediately; keeps the first error."""
        with self._changed:
            if error is not None and self.error is None:
                self.error = error
                self.failed_thread = threading.current_thread().name
            first, self.aborted = not self.aborted, True
            self._deadline_s = time.monotonic() + JOIN_S if first else self._deadline_s
            self.stop.set()
            self._changed.notify_all()
        for mailbox in self._mailboxes:
            mailbox.cancel()

    @property
    def finished(self) -> bool:
        return self._running == 0

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until all threads have ended; ``False`` after ``timeout_s``.

        Turns a drain that takes too long into an abort. Raises :class:`FusepipeError`, with the names of the threads,
        if some do not end even then (a blocked system call).
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                if self._running == 0:
                    break
                ends = [t for t in (until_s, self._deadline_s) if t is not None]
                # bounded, so that signals reach a main thread that waits here
                self._changed.wait(max(0.0, min([*ends, time.monotonic() + 0.5]) - time.monotonic()))
                if self._running == 0:
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
            thread.join()
        return True

    def _guard(self, target: Callable[[], None]) -> None:
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
