"""The runtime of TensorRT and TensorRT-RTX plans on NVIDIA GPUs.

A thread of the fuser owns the CUDA context, the plan and all buffers; callers submit requests to it and receive
tickets. Two requests are in flight, each with its own stream and buffers, so that the copies of one overlap the
computation of the other. A second thread waits for the GPU and delivers the images. :mod:`fusepipe.engines.threads`
says when the threads end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from fusepipe.core.errors import EngineError, FusepipeError, UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import EngineTicket, FuserBase, FuserInfo, FusionBatch, Ticket, as_engine_error
from fusepipe.engines import store
from fusepipe.engines.backends.cuda.api import Cuda, open_cuda
from fusepipe.engines.backends.tensorrt.completion import CompletionThread
from fusepipe.engines.backends.tensorrt.inbox import FusionRequest, Inbox
from fusepipe.engines.backends.tensorrt.lanes import Lanes
from fusepipe.engines.backends.tensorrt.plan import Plan, TensorRtPlan
from fusepipe.engines.backends.tensorrt.slots import SlotSize
from fusepipe.engines.backends.tensorrt.worker import REQUEST_TIMEOUT_S, START_TIMEOUT_S, Worker
from fusepipe.engines.cache import CompileCache
from fusepipe.engines.manifest import Shapes
from fusepipe.engines.sampling_grid import prefiltered_infrared

MAX_IN_FLIGHT = 2

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


class TensorRtFuser(FuserBase):
    """A :class:`fusepipe.core.fuser.Fuser` of a plan, with threads of its own (see the module's docstring).

    ``load`` loads the plan and ``cuda`` opens CUDA, both on the thread. ``multiple`` is the multiple that heights and
    widths are padded to. Raises :class:`EngineError` if loading or opening fails.
    """

    def __init__(
        self, info: FuserInfo, shapes: Shapes, multiple: int, load: OpenPlan, cuda: Callable[[], Cuda]
    ) -> None:
        super().__init__()
        self._shapes, self._multiple = shapes, multiple
        self._inbox = Inbox()
        self._room = threading.Semaphore(MAX_IN_FLIGHT)
        self._failure: FusepipeError | None = None
        self._device = ""
        self._warps = info.accepts_warp
        self._prepared: set[SlotSize] = set()
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(load, cuda, started), name=f"{info.backend}-{info.model}"
        )
        self._thread.start()
        try:
            in_time = started.wait(START_TIMEOUT_S)
        except BaseException:  # Ctrl-C: the thread ends as soon as the plan is loaded
            self._inbox.close()
            raise
        if not in_time:
            self._inbox.close()
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
        self._prepare(self._slot_size(height, width, batch, (height, width)))

    def _prepare(self, size: SlotSize) -> None:
        ticket = EngineTicket()
        self._inbox.put(FusionRequest(size, ticket))
        ticket.result(START_TIMEOUT_S)
        self._prepared.add(size)

    def _fuse_luma(self, infrared: Luma8, visible: Luma8) -> Luma8:
        """The first use of a size may take as long as :meth:`prepare`."""
        self._require_open()
        request = self._request(FusionBatch((infrared,), (visible,)))
        if request.size not in self._prepared:
            self._prepare(request.size)
        self._put(request)
        return request.ticket.result()[0]

    def submit(self, batch: FusionBatch) -> Ticket:
        """See :class:`fusepipe.core.fuser.Fuser`."""
        self._require_open()
        request = self._request(batch)
        self._put(request)
        return request.ticket

    def _request(self, batch: FusionBatch) -> FusionRequest:
        """Raises :class:`UsageError` if the engine does not accept the batch."""
        height, width = batch.shape
        raw = (height, width)
        if self._warps:
            images = prefiltered_infrared(batch)
            batch, raw = replace(batch, infrared=images), (images[0].shape[0], images[0].shape[1])
        elif any(warp is not None for warp in batch.warps) or any(i.shape != raw for i in batch.infrared):
            raise UsageError("this fuser takes registered infrared images: apply the warp first")
        return FusionRequest(self._slot_size(height, width, len(batch.visible), raw), EngineTicket(), batch)

    def _put(self, request: FusionRequest) -> None:
        if not self._room.acquire(timeout=REQUEST_TIMEOUT_S):
            raise EngineError(f"the GPU has completed no request for {REQUEST_TIMEOUT_S:g} s")
        try:
            self._inbox.put(request)
        except EngineError:
            self._room.release()
            raise

    def close(self) -> None:
        """Waits for requests in flight (tickets keep their results), frees everything and ends the thread."""
        if not self._closed:
            super().close()
            self._inbox.close()
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
        lanes: Lanes | None = None
        completion: CompletionThread | None = None
        worker: Worker | None = None
        try:
            cuda = open_device()
            cuda.bind_thread()
            self._device = cuda.gpu().name
            plan = load()
            lanes = Lanes(cuda, plan, MAX_IN_FLIGHT)
            name = f"{threading.current_thread().name}-results"
            completion = CompletionThread(cuda, name, self._inbox.completed)
            worker = Worker(plan, lanes, self._inbox, completion, self._room)
            started.set()
            worker.serve()
        except Exception as error:  # noqa: BLE001 - bindings raise their own classes; raised to who opens or closes
            self._failure = as_engine_error(error)
        finally:
            stopped = EngineError("the engine has stopped; open it again")
            for request in self._inbox.end():
                request.ticket.deliver([], stopped)
                if request.batch is not None:
                    self._room.release()
            if worker is not None:
                worker.fail_rest(stopped)
            self._free(completion, [lanes, plan, cuda])
            started.set()

    def _free(self, completion: CompletionThread | None, owners: Sequence[Lanes | Plan | Cuda | None]) -> None:
        """Ends the completion thread, then frees ``owners``; a failure does not stop the rest from being freed.

        If requests in flight do not complete, nothing is freed: the GPU still uses it.
        """
        try:
            if completion is not None:
                completion.close()
        except EngineError as error:
            self._failure = self._failure or error
            return
        for owner in owners:
            try:
                if owner is not None:
                    owner.close()
            except Exception as error:  # noqa: BLE001 - as above
                self._failure = self._failure or as_engine_error(error)
