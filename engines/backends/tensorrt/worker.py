"""The loop of the TensorRT runtime's thread: starts requests in free lanes and prepares sizes.

It blocks on its inbox only. :class:`fusepipe.engines.backends.tensorrt.completion.CompletionThread` waits for the GPU.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from fusepipe.core.errors import EngineError
from fusepipe.core.fuser import FusionBatch, as_engine_error
from fusepipe.engines.backends.cuda.api import OutOfGpuMemoryError
from fusepipe.engines.backends.tensorrt.completion import CompletionThread, InFlight
from fusepipe.engines.backends.tensorrt.inbox import Close, FusionRequest, Inbox, Message
from fusepipe.engines.backends.tensorrt.lanes import Lanes
from fusepipe.engines.backends.tensorrt.plan import Plan
from fusepipe.engines.backends.tensorrt.slots import Slot, SlotSize
from fusepipe.engines.sampling_grid import GridCache
from fusepipe.engines.threads import IDLE_CHECK_S, interpreter_exiting

REQUEST_TIMEOUT_S = 60.0
START_TIMEOUT_S = 300.0
"""TensorRT-RTX may compile kernels when a plan or a size is first used."""


class Worker:
    """Serves an inbox until it is closed; used by the thread that owns the CUDA context.

    ``room`` is released once for each batch that is done with, so that callers may submit another one.
    """

    def __init__(
        self, plan: Plan, lanes: Lanes, inbox: Inbox, completion: CompletionThread, room: threading.Semaphore
    ) -> None:
        self._plan, self._lanes, self._inbox = plan, lanes, inbox
        self._completion, self._room = completion, room
        self._grids = GridCache()
        self._waiting: deque[FusionRequest] = deque()
        self._running: dict[int, InFlight] = {}  # by lane
        self._started = False  # whether a batch was ever started
        self._closing = False

    def serve(self) -> None:
        """Returns once the inbox is closed and everything before that is served, or if the interpreter exits.

        Raises :class:`EngineError` if the GPU does not complete what is in flight then.
        """
        while not self._closing or self._waiting or self._running:
            message = self._inbox.get(self._patience_s())
            if message is None:
                self._expire()
            else:
                self._receive(message)
            self._start_waiting()

    def fail_rest(self, error: EngineError) -> None:
        """Delivers an error to all requests that are still waiting or running."""
        for request in self._waiting:
            self._fail(request, error)
        self._waiting.clear()
        for running in self._running.values():
            running.deliver([], error)
            self._room.release()

    def _patience_s(self) -> float | None:
        deadlines = [entry.deadline_s for entry in self._running.values() if not entry.delivered]
        if deadlines:
            return max(0.0, min(deadlines) - time.monotonic())
        if self._running:  # all past their deadline: when closing, they get one more
            return REQUEST_TIMEOUT_S if self._closing else None
        return IDLE_CHECK_S

    def _receive(self, message: Message) -> None:
        match message:
            case FusionRequest():
                self._waiting.append(message)
            case InFlight():
                del self._running[message.lane]
                if not message.failed:
                    message.slot.finished()
                self._room.release()
            case Close():
                self._closing = True

    def _expire(self) -> None:
        """Fails requests past their deadline; their buffers stay in use until the GPU has finished with them."""
        now_s = time.monotonic()
        for entry in self._running.values():
            if not entry.delivered and entry.deadline_s <= now_s:
                entry.deliver([], EngineError(f"the GPU did not finish within {REQUEST_TIMEOUT_S:g} s"))
        if self._closing and self._running and all(entry.delivered for entry in self._running.values()):
            raise EngineError("the GPU does not respond")
        if not self._running and not self._waiting and interpreter_exiting():
            self._closing = True

    # -- starting

    def _start_waiting(self) -> None:
        while self._waiting and self._start_first():
            self._waiting.popleft()

    def _start_first(self) -> bool:
        """Serves the oldest request that waits; false if it has to wait for a completion."""
        request = self._waiting[0]
        if request.batch is None:
            if self._running:
                return False
            self._prepare(request)
            return True
        lane = next((lane for lane in range(len(self._lanes)) if lane not in self._running), None)
        if lane is None:
            return False
        try:
            self._start(request, request.batch, lane)
        except OutOfGpuMemoryError as error:
            if self._running:
                return False  # again when a lane is free: its size can be freed then
            self._fail(request, error)
        except Exception as error:  # noqa: BLE001 - bindings raise their own classes; delivered to the caller
            self._fail(request, error)
        return True

    def _start(self, request: FusionRequest, batch: FusionBatch, lane: int) -> None:
        slot = self._slot(request.size, lane, eager=False)
        timeout_s = REQUEST_TIMEOUT_S if slot.warm else START_TIMEOUT_S
        self._launch(slot, batch)
        deadline_s = time.monotonic() + timeout_s
        running = InFlight(slot, request.size, lane, request.ticket, batch.shape, deadline_s)
        self._running[lane] = running
        self._started = True
        self._completion.watch(running)

    def _slot(self, size: SlotSize, lane: int, *, eager: bool) -> Slot:
        busy = {entry.lane: entry.size for entry in self._running.values()}
        return self._lanes.slot(size, lane, eager=eager, busy=busy)

    def _launch(self, slot: Slot, batch: FusionBatch) -> None:
        try:
            slot.start(batch, self._grids)
        except Exception as error:
            try:
                slot.wait()  # what was started before the failure uses the buffers
            except EngineError as also:
                error.add_note(f"and then: {also}")
            raise

    def _prepare(self, request: FusionRequest) -> None:
        """Makes the slots of a size in all lanes and runs a black batch in each.

        Kernels are compiled for the size now if nothing has been fused yet, and in the background if others would wait
        for that (a folder of mixed sizes, a second rig).
        """
        try:
            cold = False
            for lane in range(len(self._lanes)):
                slot = self._slot(request.size, lane, eager=not self._started)
                if not slot.warm:
                    cold = True
                    self._launch(slot, slot.black_batch())
                    slot.wait()
                    slot.finished()
            if cold:
                self._plan.save_kernels()  # a process that is killed later need not compile them again
            request.ticket.deliver([])
        except Exception as error:  # noqa: BLE001 - as in _start_first
            self._fail(request, error)

    def _fail(self, request: FusionRequest, error: Exception) -> None:
        request.ticket.deliver([], as_engine_error(error))
        if request.batch is not None:
            self._room.release()
