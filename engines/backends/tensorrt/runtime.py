"""The runtime of TensorRT and TensorRT-RTX plans on NVIDIA GPUs.

A thread of the fuser owns the CUDA context, the plan and all buffers; callers submit requests to it and receive
tickets. Two requests are in flight, each with its own stream and buffers, so that the copies of one overlap the
computation of the other. :mod:`fusepipe.engines.threads` says when the thread ends.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from fusepipe.core.errors import EngineError, FusepipeError, UsageError
from fusepipe.core.fuser import EngineTicket, FuserBase, FuserInfo, FusionBatch, Ticket, as_engine_error
from fusepipe.engines import store
from fusepipe.engines.backends.cuda.api import Cuda, open_cuda
from fusepipe.engines.backends.tensorrt.plan import Plan, TensorRtPlan
from fusepipe.engines.backends.tensorrt.slots import Slot, SlotSize
from fusepipe.engines.cache import CompileCache
from fusepipe.engines.manifest import Shapes
from fusepipe.engines.sampling_grid import GridCache, prefiltered_infrared
from fusepipe.engines.threads import IDLE_CHECK_S, interpreter_exiting

MAX_IN_FLIGHT = 2
CACHED_SIZES = 8
"""Number of sizes, batch included, whose buffers are kept; the least recently used is freed first."""
REQUEST_TIMEOUT_S = 60.0
START_TIMEOUT_S = 300.0
"""TensorRT-RTX may compile kernels when a plan is first used."""
_POLL_S = 0.0001

OpenPlan = Callable[[], Plan]


def kernel_cache() -> CompileCache:
    """The kernels that TensorRT-RTX compiled for this GPU, kept between runs, by plan."""
    return CompileCache(store.engines_folder() / ".kernels")


def open_plan(
    model: str,
    backend: str,
    precision: str,
    plan: bytes,
    shapes: Shapes,
    *,
    multiple: int,
    warp: bool = False,
    version_compatible: bool = False,
    reason: str = "",
    cuda: Callable[[], Cuda] = open_cuda,
) -> TensorRtFuser:
    """A fuser of a plan whose manifest was checked; raises :class:`EngineError` if it cannot run here."""

    def load() -> Plan:
        kernels = kernel_cache() if backend == "tensorrt-rtx" else None
        return TensorRtPlan(backend, plan, kernels, host_code=version_compatible)

    info = FuserInfo(
        model=model,
        backend=backend,
        precision=precision,
        reason=reason,
        accepts_warp=warp,
        max_in_flight=MAX_IN_FLIGHT,
        max_batch=shapes.batch,
    )
    return TensorRtFuser(info, shapes, multiple, load, cuda)


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """Work for the thread: a batch to fuse, or without one a size to prepare."""

    size: SlotSize
    ticket: EngineTicket
    batch: FusionBatch | None = None


@dataclass(slots=True, eq=False)
class _Running:
    """A request in flight; ``size`` is the (height, width) of its images before padding."""

    slot: Slot
    ticket: EngineTicket
    size: tuple[int, int]
    deadline_s: float


class _RequestQueue:
    """Requests to the thread, in order; closed by the fuser, and by the thread when it ends."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._ended = False

    def put(self, request: _Request) -> None:
        """Raises :class:`EngineError` if the thread has ended."""
        with self._lock:
            if self._ended:
                raise EngineError("the engine has stopped; open it again")
            self._queue.put(request)

    def close(self) -> None:
        """The thread ends after the requests put so far."""
        self._queue.put(None)

    def poll(self) -> _Request | None:
        """The next request, ``None`` once closed; raises ``queue.Empty`` without one."""
        return self._queue.get(timeout=_POLL_S)

    def wait(self) -> _Request | None:
        """The next request; ``None`` once closed, or if the interpreter exits."""
        while True:
            try:
                return self._queue.get(timeout=IDLE_CHECK_S)
            except Empty:
                if interpreter_exiting():
                    return None

    def end(self) -> list[_Request]:
        """Refuses further requests; returns those that were not served."""
        left: list[_Request] = []
        with self._lock:
            self._ended = True
            while not self._queue.empty():
                request = self._queue.get()
                left += [request] if request is not None else []
        return left


class TensorRtFuser(FuserBase):
    """A :class:`fusepipe.core.fuser.Fuser` of a plan, with a thread of its own (see the module's docstring).

    ``load`` loads the plan and ``cuda`` opens CUDA, both on the thread. ``multiple`` is the multiple that heights and
    widths are padded to. Raises :class:`EngineError` if loading or opening fails.
    """

    def __init__(
        self, info: FuserInfo, shapes: Shapes, multiple: int, load: OpenPlan, cuda: Callable[[], Cuda]
    ) -> None:
        super().__init__()
        self._shapes, self._multiple = shapes, multiple
        self._requests = _RequestQueue()
        self._room = threading.Semaphore(MAX_IN_FLIGHT)
        self._failure: FusepipeError | None = None
        self._device = ""
        self._warps = info.accepts_warp
        self._grids = GridCache()
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(load, cuda, started), name=f"{info.backend}-{info.model}"
        )
        self._thread.start()
        try:
            in_time = started.wait(START_TIMEOUT_S)
        except BaseException:  # Ctrl-C: the thread ends as soon as the plan is loaded
            self._requests.close()
            raise
        if not in_time:
            self._requests.close()
            raise EngineError(
                f"{info.backend} did not start within {START_TIMEOUT_S:g} s; is the GPU lost (nvidia-smi)?"
            )
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        self.info = replace(info, device=self._device)

    # -- called by the owner

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        """Allocates buffers and contexts for a size; raises :class:`EngineError` if the engine does not accept it."""
        self._require_open()
        if min(height, width, batch) < 1:
            raise UsageError(f"cannot prepare {height = } {width = } {batch = }")
        ticket = EngineTicket()
        self._requests.put(_Request(self._slot_size(height, width, batch, (height, width)), ticket))
        ticket.result(START_TIMEOUT_S)

    def submit(self, batch: FusionBatch) -> Ticket:
        """See :class:`fusepipe.core.fuser.Fuser`."""
        self._require_open()
        height, width = batch.shape
        raw = (height, width)
        if self._warps:
            images = prefiltered_infrared(batch)
            batch, raw = replace(batch, infrared=images), (images[0].shape[0], images[0].shape[1])
        elif any(warp is not None for warp in batch.warps) or any(i.shape != raw for i in batch.infrared):
            raise UsageError("this fuser takes registered infrared images: apply the warp first")
        request = _Request(self._slot_size(height, width, len(batch.visible), raw), EngineTicket(), batch)
        if not self._room.acquire(timeout=REQUEST_TIMEOUT_S):
            raise EngineError(f"the GPU has completed no request for {REQUEST_TIMEOUT_S:g} s")
        try:
            self._requests.put(request)
        except EngineError:
            self._room.release()
            raise
        return request.ticket

    def close(self) -> None:
        """Waits for requests in flight (tickets keep their results), frees everything and ends the thread."""
        if not self._closed:
            super().close()
            self._requests.close()
        self._thread.join(REQUEST_TIMEOUT_S + START_TIMEOUT_S)
        if self._thread.is_alive():
            raise EngineError("the GPU does not respond: its thread has not ended")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _slot_size(self, height: int, width: int, batch: int, raw: tuple[int, int]) -> SlotSize:
        """The size of the buffers for a request; raises :class:`UsageError` if the engine does not accept it."""
        m = self._multiple
        padded_h, padded_w = -(-height // m) * m, -(-width // m) * m
        refusal = self._shapes.refusal(padded_h, padded_w, batch)
        if refusal:
            raise UsageError(f"{refusal}: build one with another --shape or --batch")
        padded = batch, padded_h, padded_w
        if not self._warps:
            return SlotSize(padded)
        refusal = self._shapes.refusal(*raw, batch)
        if refusal:
            raise UsageError(f"the infrared image of {refusal}: build one with another --shape")
        return SlotSize(padded, raw)

    # -- on the thread

    def _run(self, load: OpenPlan, open_device: Callable[[], Cuda], started: threading.Event) -> None:
        cuda: Cuda | None = None
        plan: Plan | None = None
        slots: OrderedDict[SlotSize, list[Slot]] = OrderedDict()
        try:
            cuda = open_device()
            cuda.bind_thread()
            self._device = cuda.gpu().name
            plan = load()
            started.set()
            self._serve(cuda, plan, slots)
        except Exception as error:  # noqa: BLE001 - bindings raise their own classes; raised to who opens or closes
            self._failure = as_engine_error(error)
        finally:
            for request in self._requests.end():
                self._fail(request, EngineError("the engine has stopped; open it again"))
            self._free(cuda, plan, slots)
            started.set()

    def _free(self, cuda: Cuda | None, plan: Plan | None, slots: OrderedDict[SlotSize, list[Slot]]) -> None:
        """Frees contexts, then the plan, then CUDA; a failure does not stop the rest from being freed."""
        owners: list[Slot | Plan | Cuda | None] = [slot for pair in slots.values() for slot in pair]
        for owner in (*owners, plan, cuda):
            try:
                if owner is not None:
                    owner.close()
            except Exception as error:  # noqa: BLE001 - as above
                self._failure = self._failure or as_engine_error(error)

    def _serve(self, cuda: Cuda, plan: Plan, slots: OrderedDict[SlotSize, list[Slot]]) -> None:
        running: deque[_Running] = deque()
        try:
            while (request := self._next(running)) is not None:
                if request.batch is None:
                    self._finish_all(running)
                self._begin(request, cuda, plan, slots, running)
            self._finish_all(running)
        finally:
            for entry in running:
                entry.ticket.deliver([], EngineError("the engine has stopped; open it again"))

    def _next(self, running: deque[_Running]) -> _Request | None:
        """The next request as soon as a slot is free for it; delivers completed requests meanwhile."""
        while running:
            # a new request goes first: its copies overlap the computation in flight
            if len(running) < MAX_IN_FLIGHT:
                with suppress(Empty):
                    return self._requests.poll()
            else:
                time.sleep(_POLL_S)
            if self._ended(running[0]):
                running.popleft()
        return self._requests.wait()

    def _begin(
        self,
        request: _Request,
        cuda: Cuda,
        plan: Plan,
        slots: OrderedDict[SlotSize, list[Slot]],
        running: deque[_Running],
    ) -> None:
        try:
            if request.size not in slots:
                self._finish_all(running)  # a slot must not be freed while in use
                self._make(request.size, cuda, plan, slots)
            slots.move_to_end(request.size)
            if request.batch is None:
                for slot in slots[request.size]:
                    self._warm_up(slot)
                request.ticket.deliver([])
                return
            busy = {id(entry.slot) for entry in running}
            slot = next(slot for slot in slots[request.size] if id(slot) not in busy)
            self._start(slot, request.batch)
            running.append(_Running(slot, request.ticket, request.batch.shape, time.monotonic() + REQUEST_TIMEOUT_S))
        except Exception as error:  # noqa: BLE001 - delivered to the caller; the next request is served
            self._fail(request, error)

    def _start(self, slot: Slot, batch: FusionBatch) -> None:
        try:
            slot.start(batch, self._grids)
        except Exception:
            self._settle(slot)
            raise

    def _warm_up(self, slot: Slot) -> None:
        """Runs a black batch: TensorRT initialises (RTX compiles kernels) and the CUDA graph is captured."""
        if not slot.warm:
            black = slot.black_batch()
            self._start(slot, black)
            self._settle(slot)
            if not slot.done():
                raise EngineError(f"the GPU did not finish its first request within {START_TIMEOUT_S:g} s")
            slot.images(*black.shape)

    @staticmethod
    def _make(size: SlotSize, cuda: Cuda, plan: Plan, slots: OrderedDict[SlotSize, list[Slot]]) -> None:
        while len(slots) >= CACHED_SIZES:
            for slot in slots.popitem(last=False)[1]:
                slot.close()
        made: list[Slot] = []
        try:
            for _ in range(MAX_IN_FLIGHT):
                made.append(Slot(cuda, plan, size))
        except Exception:
            for slot in made:
                slot.close()
            raise
        slots[size] = made

    def _ended(self, entry: _Running) -> bool:
        """Whether a request has completed, failed or timed out; if so, delivers its ticket."""
        try:
            if not entry.slot.done():
                if time.monotonic() <= entry.deadline_s:
                    return False
                raise EngineError(f"the GPU did not finish within {REQUEST_TIMEOUT_S:g} s")
            entry.ticket.deliver(entry.slot.images(*entry.size))
        except Exception as error:  # noqa: BLE001 - as in _begin
            entry.ticket.deliver([], as_engine_error(error))
        self._room.release()
        return True

    def _finish_all(self, running: deque[_Running]) -> None:
        while running:
            if self._ended(running[0]):
                running.popleft()
            else:
                time.sleep(_POLL_S)

    @staticmethod
    def _settle(slot: Slot) -> None:
        """Waits, up to the start timeout, until nothing uses the buffers of a request."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not slot.done() and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)

    def _fail(self, request: _Request, error: Exception) -> None:
        request.ticket.deliver([], as_engine_error(error))
        if request.batch is not None:
            self._room.release()
