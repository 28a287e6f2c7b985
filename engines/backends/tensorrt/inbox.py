"""The queue of a TensorRT runtime: requests of callers, and completed requests, in one order."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from fusepipe.core.errors import EngineError
from fusepipe.core.fuser import EngineTicket, FusionBatch
from fusepipe.engines.backends.tensorrt.completion import InFlight
from fusepipe.engines.backends.tensorrt.slots import SlotSize


@dataclass(frozen=True, slots=True, eq=False)
class FusionRequest:
    """Work for the runtime's thread: a batch to fuse, or without one a size to prepare."""

    size: SlotSize
    ticket: EngineTicket
    batch: FusionBatch | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """The thread ends after the requests before this."""


Message = FusionRequest | InFlight | Close


class Inbox:
    """Messages to the runtime's thread; closed by the fuser, and by the thread when it ends."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Message] = SimpleQueue()
        self._lock = threading.Lock()
        self._ended = False

    def put(self, request: FusionRequest) -> None:
        """Raises :class:`EngineError` if the thread has ended."""
        with self._lock:
            if self._ended:
                raise EngineError("the engine has stopped; open it again")
            self._queue.put(request)

    def completed(self, request: InFlight) -> None:
        """Reports a request that has completed or failed."""
        self._queue.put(request)

    def close(self) -> None:
        """The thread ends after the requests put so far."""
        self._queue.put(Close())

    def get(self, timeout_s: float | None) -> Message | None:
        """The next message; ``None`` after the timeout."""
        try:
            return self._queue.get(timeout=timeout_s)
        except Empty:
            return None

    def end(self) -> list[FusionRequest]:
        """Refuses further requests; returns those that were not served."""
        left: list[FusionRequest] = []
        with self._lock:
            self._ended = True
            while not self._queue.empty():
                message = self._queue.get()
                left += [message] if isinstance(message, FusionRequest) else []
        return left
