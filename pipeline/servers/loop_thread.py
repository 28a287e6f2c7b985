"""An asyncio event loop in its own thread, for network servers: named, joined, every call with a timeout."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from fusepipe.pipeline.servers.log_limit import LogLimit

T = TypeVar("T")
STOP_S = 5.0
log = logging.getLogger(__name__)


class LoopThread:
    """``start``, ``post`` and ``call`` from other threads, ``stop``: cancels the tasks and joins the thread."""

    def __init__(self, name: str) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def post(self, function: Callable[..., object], *args: Any) -> bool:
        """Schedules a call in the loop; ``False`` if the loop is not running."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Runs a coroutine in the loop and returns its result. Raises what it raises, or ``TimeoutError``."""
        if self._loop is None or self._loop.is_closed():
            coroutine.close()
            raise RuntimeError("the event loop is not running")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise
        except CancelledError as error:
            raise TimeoutError("the event loop was stopped") from error

    def stop(self) -> None:
        """Cancels all tasks, ends the loop, joins the thread. May be called twice, and before ``start``."""
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
        loop.set_exception_handler(_report_to(LogLimit(log)))
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


def _report_to(limited_log: LogLimit) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Reports errors that no task awaits; clients may cause many of them."""

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        thread = threading.current_thread().name
        limited_log.error("loop", "%s: %s", thread, context["message"], error=context.get("exception"))

    return report
