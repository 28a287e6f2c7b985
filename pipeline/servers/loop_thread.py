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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def post(self, function: Callable[..., object], *args: Any) -> bool:
        """Calls it in the loop, soon; ``False`` where the loop has not begun or has ended."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Runs it in the loop and waits for its result. Raises what it raises, or ``TimeoutError``."""
        if self._loop is None or self._loop.is_closed():
            coroutine.close()
            raise RuntimeError("the loop does not run")
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
        if self._loop is None or not self._thread.is_alive():
            return
        self.post(self._loop.stop)
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            log.error("%s did not end within %g s", self._thread.name, STOP_S)

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=STOP_S / 2))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
