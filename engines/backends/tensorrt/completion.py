"""Waiting for the GPU: a thread that blocks on the CUDA event of each request and delivers its images.

It uses no CPU while it waits (CUDA's blocking synchronisation, with Python's lock released), and the thread that starts
requests never waits for the GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

from fusepipe.core.errors import EngineError, FusepipeError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import EngineTicket, as_engine_error
from fusepipe.engines.backends.cuda.api import Cuda
from fusepipe.engines.backends.tensorrt.slots import Slot, SlotSize

END_TIMEOUT_S = 60.0
"""How long :meth:`CompletionThread.close` waits for the requests in flight."""


@dataclass(slots=True, eq=False)
class InFlight:
    """A request that was started; ``sides`` is the (height, width) of its images before padding."""

    slot: Slot
    size: SlotSize
    lane: int
    ticket: EngineTicket
    sides: tuple[int, int]
    deadline_s: float
    failed: bool = False
    delivered: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def deliver(self, images: list[Luma8], error: FusepipeError | None = None) -> None:
        """Sets the result, unless it was set before: a request may complete just after it timed out."""
        with self._lock:
            if self.delivered:
                return
            self.delivered = True
        self.ticket.deliver(images, error)


class CompletionThread:
    """Waits for requests in the order in which they were started.

    ``completed`` is called for each, on the thread, before its result is delivered. Raises :class:`EngineError` if the
    thread cannot use the GPU.
    """

    def __init__(self, cuda: Cuda, name: str, completed: Callable[[InFlight], None]) -> None:
        self._cuda, self._completed = cuda, completed
        self._queue: SimpleQueue[InFlight | None] = SimpleQueue()
        self._failure: FusepipeError | None = None
        bound = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(bound,), name=name)
        self._thread.start()
        bound.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def watch(self, request: InFlight) -> None:
        """Delivers the request when it completes."""
        self._queue.put(request)

    def close(self) -> None:
        """Waits for the requests in flight and ends the thread; raises :class:`EngineError` if they do not complete."""
        self._queue.put(None)
        self._thread.join(END_TIMEOUT_S)
        if self._thread.is_alive():
            raise EngineError("the GPU does not respond: requests in flight have not completed")

    # -- on the thread

    def _run(self, bound: threading.Event) -> None:
        try:
            self._cuda.bind_thread()
        except Exception as error:  # noqa: BLE001 - bindings raise their own classes; raised by the constructor
            self._failure = as_engine_error(error)
            return
        finally:
            bound.set()
        try:
            while (request := self._queue.get()) is not None:
                self._complete(request)
        finally:
            self._cuda.unbind_thread()

    def _complete(self, request: InFlight) -> None:
        images: list[Luma8] = []
        failure: FusepipeError | None = None
        try:
            request.slot.wait()
            images = request.slot.images(*request.sides)
        except Exception as error:  # noqa: BLE001 - as above; delivered to the caller
            request.failed, failure = True, as_engine_error(error)
        self._completed(request)  # first, so that the caller's next request finds the slot free
        request.deliver(images, failure)
