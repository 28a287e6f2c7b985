"""Networks on NVIDIA GPUs: TensorRT and TensorRT-RTX plans.

One thread of the fuser's own has the CUDA context, the plan and all buffers. Callers hand it requests and get
tickets. Two requests are under way, each with its own stream and buffers, so that the copies of one overlap the
computation of the other.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, Queue

from fusepipe.core.errors import EngineError, FusepipeError, UsageError
from fusepipe.core.fuser import EngineTicket, FuserBase, FuserInfo, FusionBatch, Ticket, as_engine_error
from fusepipe.engines import store
from fusepipe.engines.backends.cuda.api import Cuda, open_cuda
from fusepipe.engines.backends.tensorrt.plan import Plan, TensorRtPlan
from fusepipe.engines.backends.tensorrt.slots import Slot, SlotSize
from fusepipe.engines.cache import CompileCache
from fusepipe.engines.manifest import Shapes
from fusepipe.engines.warp_grid import WarpGrids, raw_infrared

MAX_IN_FLIGHT = 2
KEPT_SIZES = 8
"""Sizes (batches of one, two, four ... each) whose buffers are kept; the one not used for longest goes first."""
_WAIT_S = 60.0
_START_S = 300.0
"""TensorRT-RTX may compile kernels when a plan is first used."""
_POLL_S = 0.0001

OpenPlan = Callable[[], Plan]


def kernel_cache() -> CompileCache:
    """Where the kernels that TensorRT-RTX compiled for this GPU are kept between runs, by plan."""
    return CompileCache(store.default_folder() / ".kernels")


def open_plan(
    model: str,
    backend: str,
    precision: str,
    plan: bytes,
    shapes: Shapes,
    *,
    multiple: int = 2,
    warp: bool = False,
    version_compatible: bool = False,
    reason: str = "",
    cuda: Callable[[], Cuda] = open_cuda,
) -> TensorRtFuser:
    """A fuser of a plan whose manifest was checked; raises :class:`EngineError` where it cannot run here."""

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
    """Work for the thread. Without a batch, the size is only prepared."""

    size: SlotSize
    ticket: EngineTicket
    batch: FusionBatch | None = None


@dataclass(slots=True, eq=False)
class _Running:
    slot: Slot
    ticket: EngineTicket
    size: tuple[int, int]
    deadline_s: float


class TensorRtFuser(FuserBase):
    """A :class:`fusepipe.core.fuser.Fuser` of a loaded plan; see the module's text for its thread.

    ``load`` loads the plan and ``cuda`` opens CUDA, both on the thread. ``multiple`` is what heights and widths
    are padded to. Raises :class:`EngineError` where either fails.
    """

    def __init__(
        self, info: FuserInfo, shapes: Shapes, multiple: int, load: OpenPlan, cuda: Callable[[], Cuda]
    ) -> None:
        super().__init__()
        self._shapes, self._multiple = shapes, multiple
        self._requests: Queue[_Request | None] = Queue()
        self._room = threading.Semaphore(MAX_IN_FLIGHT)
        self._failure: FusepipeError | None = None
        self._device = ""
        self._warps = info.accepts_warp
        self._grids = WarpGrids()
        started = threading.Event()
        # daemon: a GPU that hangs, or a fuser that nobody closed, does not keep Python from ending
        self._thread = threading.Thread(
            target=self._run, args=(load, cuda, started), name=f"{info.backend}-{info.model}", daemon=True
        )
        self._thread.start()
        try:
            in_time = started.wait(_START_S)
        except BaseException:  # Ctrl-C: nobody will have this fuser
            self._requests.put(None)
            raise
        if not in_time:
            self._requests.put(None)
            raise EngineError(f"{info.backend} did not start within {_START_S:g} s; is the GPU lost (nvidia-smi)?")
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        self.info = replace(info, device=self._device)

    # -- the caller's side

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        """Makes buffers and contexts of this size; raises :class:`EngineError` where the engine has no such size."""
        self._require_open()
        if min(height, width, batch) < 1:
            raise UsageError(f"cannot prepare {height = } {width = } {batch = }")
        ticket = EngineTicket()
        self._requests.put(_Request(self._slot_size(height, width, batch, (height, width)), ticket))
        ticket.result(_START_S)

    def submit(self, batch: FusionBatch) -> Ticket:
        """See :class:`fusepipe.core.fuser.Fuser`."""
        self._require_open()
        height, width = batch.shape
        raw = (height, width)
        if self._warps:
            images = raw_infrared(batch)
            batch, raw = replace(batch, infrared=images), (images[0].shape[0], images[0].shape[1])
        elif any(warp is not None for warp in batch.warps) or any(i.shape != raw for i in batch.infrared):
            raise UsageError("this fuser takes registered infrared images: apply the warp first")
        request = _Request(self._slot_size(height, width, len(batch.visible), raw), EngineTicket(), batch)
        if not self._room.acquire(timeout=_WAIT_S):
            raise EngineError(f"the GPU has finished nothing for {_WAIT_S:g} s")
        self._requests.put(request)
        return request.ticket

    def close(self) -> None:
        """Waits for what is in flight (results stay with their tickets) and frees everything."""
        if not self._closed:
            super().close()
            self._requests.put(None)
        self._thread.join(_WAIT_S + _START_S)
        if self._thread.is_alive():
            raise EngineError("the GPU's thread does not end: the GPU hangs")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _slot_size(self, height: int, width: int, batch: int, raw: tuple[int, int]) -> SlotSize:
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

    # -- the thread's side

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
        except Exception as error:  # noqa: BLE001 - of whatever class bindings raise; who opens or closes is told
            self._failure = as_engine_error(error)
        finally:
            self._free(cuda, plan, slots)
            started.set()

    def _free(self, cuda: Cuda | None, plan: Plan | None, slots: OrderedDict[SlotSize, list[Slot]]) -> None:
        """Contexts before their plan, and CUDA last; what fails keeps nothing after it from being freed."""
        owners: list[Slot | Plan | Cuda | None] = [slot for pair in slots.values() for slot in pair]
        for owner in (*owners, plan, cuda):
            try:
                if owner is not None:
                    owner.close()
            except Exception as error:  # noqa: BLE001 - as above
                self._failure = self._failure or as_engine_error(error)

    def _serve(self, cuda: Cuda, plan: Plan, slots: OrderedDict[SlotSize, list[Slot]]) -> None:
        running: deque[_Running] = deque()
        while (request := self._next(running)) is not None:
            if request.batch is None:
                self._finish_all(running)
            self._begin(request, cuda, plan, slots, running)
        self._finish_all(running)

    def _next(self, running: deque[_Running]) -> _Request | None:
        """The next request as soon as it is there and has room; what is done by then is delivered."""
        while running:
            # new work goes before what may be done: its copies overlap what computes
            if len(running) < MAX_IN_FLIGHT:
                with suppress(Empty):
                    return self._requests.get(timeout=_POLL_S)
            else:
                time.sleep(_POLL_S)
            if self._ended(running[0]):
                running.popleft()
        return self._requests.get()

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
                self._finish_all(running)  # a slot that is freed must not be at work
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
            running.append(_Running(slot, request.ticket, request.batch.shape, time.monotonic() + _WAIT_S))
        except Exception as error:  # noqa: BLE001 - the one who waits is told, and the next request is served
            self._fail(request, error)

    def _start(self, slot: Slot, batch: FusionBatch) -> None:
        try:
            slot.start(batch, self._grids)
        except Exception:
            self._settle(slot)
            raise

    def _warm_up(self, slot: Slot) -> None:
        """Lets TensorRT set itself up (RTX compiles kernels) and captures the graph, while nobody waits for a pair."""
        if not slot.warm:
            black = slot.black_batch()
            self._start(slot, black)
            self._settle(slot)
            if not slot.done():
                raise EngineError(f"the GPU did not finish its first request within {_START_S:g} s")
            slot.images(*black.shape)

    @staticmethod
    def _make(size: SlotSize, cuda: Cuda, plan: Plan, slots: OrderedDict[SlotSize, list[Slot]]) -> None:
        while len(slots) >= KEPT_SIZES:
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
        """Whether a request has ended, well, badly or by its deadline; then its ticket has what came of it."""
        try:
            if not entry.slot.done():
                if time.monotonic() <= entry.deadline_s:
                    return False
                raise EngineError(f"the GPU did not finish within {_WAIT_S:g} s")
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
        """Waits, with an end, until nothing uses the buffers of a request that failed."""
        deadline_s = time.monotonic() + _START_S
        while not slot.done() and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)

    def _fail(self, request: _Request, error: Exception) -> None:
        request.ticket.deliver([], as_engine_error(error))
        if request.batch is not None:
            self._room.release()
