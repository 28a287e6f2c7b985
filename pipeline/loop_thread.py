"""An asyncio loop in a thread of its own, for the network outputs: named, joined, every call bounded."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

T = TypeVar("T")
STOP_S = 5.0
log = logging.getLogger(__name__)


class LoopThread:
    """``start`` it, hand it work from other threads, ``stop`` it: that cancels its tasks and joins the thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def post(self, function: Callable[..., object], *args: Any) -> bool:
        """Calls it in the loop, soon; ``False`` where the loop has ended already."""
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Runs it in the loop and waits for its result. Raises what it raises, or ``TimeoutError``."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise
        except CancelledError as error:
            raise TimeoutError("the loop was stopped") from error

    def stop(self) -> None:
        """Cancels what runs, ends the loop, joins the thread. May be called twice, and before ``start``."""
        if not self._thread.is_alive():
            if not self._loop.is_running() and not self._loop.is_closed():
                self._loop.close()
            return
        self.post(self._loop.stop)
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            log.error("%s did not end within %g s", self._thread.name, STOP_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=STOP_S / 2))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()
