"""Owns the threads of one graph: names them, stops them all at the first failure, joins them.

There are two ways to end before the sources do:

``drain``  (SIGINT, ``--duration``, ``--max-pairs``) sources stop, what is under way is finished
           and written, the sinks finalise their files.
``abort``  (a failure, or a drain that takes too long) every mailbox is cancelled, so that every
           thread wakes at once; the sinks still finalise what they have written.
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

DRAIN_S = 5.0  # how long a drain may take before it becomes an abort
JOIN_S = 10.0  # how long threads may take to end after an abort: finalising a file on a slow disk


class Supervisor:
    """Runs named threads as one group. ``stop`` is set when sources shall end."""

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
        """These mailboxes are cancelled when the group is aborted."""
        self._mailboxes.extend(mailboxes)

    def spawn(self, name: str, target: Callable[[], None]) -> None:
        """Adds a thread; it starts with :meth:`start`."""
        self._threads.append(threading.Thread(target=self._guard, args=(target,), name=f"{self.name}/{name}"))

    def start(self) -> None:
        with self._changed:
            self._running = len(self._threads)
        for number, thread in enumerate(self._threads):
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more threads
                with self._changed:
                    self._running -= len(self._threads) - number
                del self._threads[number:]
                self.abort(FusepipeError(f"{self.name}: cannot start {thread.name}: {error}"))
                return

    def drain(self) -> None:
        """Asks the sources to end; becomes an abort after ``DRAIN_S``."""
        with self._changed:
            if self._deadline_s is None:
                self._deadline_s = time.monotonic() + DRAIN_S
            self.stop.set()
            self._changed.notify_all()

    def abort(self, error: BaseException | None = None) -> None:
        """Stops everything now; the first error is the one that is kept."""
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
        """Waits until all threads have ended; ``False`` when ``timeout_s`` passed before.

        Turns a drain that takes too long into an abort. Raises :class:`FusepipeError` when threads
        do not end even then (a blocked system call): it names them.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                if self._running == 0:
                    break
                ends = [t for t in (until_s, self._deadline_s) if t is not None]
                # an upper bound, so that signals reach a main thread that waits here
                self._changed.wait(max(0.0, min([*ends, time.monotonic() + 0.5]) - time.monotonic()))
                if self._running == 0:
                    break
                late = self._deadline_s is not None and time.monotonic() >= self._deadline_s
            if late and self.aborted:
                alive = ", ".join(t.name for t in self._threads if t.is_alive())
                because = f" (after: {self.error})" if self.error is not None else ""
                raise FusepipeError(f"these threads did not end within {JOIN_S:g} s: {alive}{because}") from self.error
            if late:
                log.warning("%s: what was under way did not finish within %g s; stopping", self.name, DRAIN_S)
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
            pass  # the run is being stopped: not a failure of this thread
        except BaseException as error:  # noqa: BLE001 - kept, and raised in the thread that waits
            self.abort(error)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
