"""How the TensorRT runtime waits for the GPU, on fake CUDA."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from helpers.engine_requests import padding_multiple
from helpers.waiting import wait_for

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import EngineTicket, FuserInfo, FusionBatch
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt import completion, worker
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.backends.tensorrt.lanes import Lanes
from fusepipe.engines.backends.tensorrt.runtime import TensorRtFuser
from fusepipe.engines.backends.tensorrt.slots import SlotSize
from fusepipe.engines.load import read_onnx
from fusepipe.engines.manifest import Shapes
from fusepipe.engines.sampling_grid import GridCache

MULTIPLE = padding_multiple()
SHAPES = Shapes((MULTIPLE, MULTIPLE), (64, 48), (128, 128), batch=4)
INFO = FuserInfo("stream", "tensorrt", "fp32", max_in_flight=2, max_batch=4)
BUSY_S = 0.5


def scene(seed: int) -> tuple[Luma8, Luma8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (16, 16), np.uint8), rng.integers(0, 256, (16, 16), np.uint8)


def batch(seed: int) -> FusionBatch:
    infrared, visible = scene(seed)
    return FusionBatch((infrared,), (visible,))


def open_on(cuda: FakeCuda) -> TensorRtFuser:
    return TensorRtFuser(INFO, SHAPES, MULTIPLE, lambda: FakePlan(cuda, read_onnx("stream")), lambda: cuda)


def test_a_lane_is_free_before_its_result_is_delivered() -> None:
    """Else the caller's next request could find no free lane, and wait for a completion that is past."""
    cuda, freed = FakeCuda(), []
    cuda.bind_thread()
    lanes = Lanes(cuda, FakePlan(cuda, read_onnx("stream")), 1)
    size = SlotSize((1, MULTIPLE, MULTIPLE))
    slot = lanes.slot(size, 0, eager=True, busy={})
    thread = completion.CompletionThread(cuda, "results", lambda request: freed.append(request.delivered))
    request = completion.InFlight(slot, size, 0, EngineTicket(), (16, 16), deadline_s=0.0)
    slot.start(slot.black_batch(), GridCache())
    thread.watch(request)
    assert request.ticket.result(20)[0].shape == (16, 16)
    thread.close()
    assert freed == [False]
    lanes.close()


@pytest.mark.parametrize("in_flight", [1, 2])
def test_waiting_for_the_gpu_costs_no_calls_and_no_cpu_time(in_flight: int) -> None:
    cuda = FakeCuda()
    with open_on(cuda) as fuser:
        fuser.prepare(16, 16)
        cuda.computes.clear()
        try:
            waits = cuda.calls["wait"]
            tickets = [fuser.submit(batch(seed)) for seed in range(in_flight)]
            wait_for(lambda: cuda.calls["wait"] > waits and cuda.calls["launch"] == in_flight)
            calls, cpu_s = dict(cuda.calls), time.process_time()
            time.sleep(BUSY_S)
            assert dict(cuda.calls) == calls
            assert time.process_time() - cpu_s < BUSY_S / 20
        finally:
            cuda.computes.set()
        assert all(len(ticket.result()) == 1 for ticket in tickets)


def test_a_request_that_timed_out_keeps_its_buffers_until_the_gpu_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one must not get them: the GPU may still write to them."""
    cuda = FakeCuda()
    with open_on(cuda) as fuser:
        fuser.prepare(16, 16)
        expected = [fuser.fuse(*scene(seed)) for seed in range(4)]
        monkeypatch.setattr(worker, "REQUEST_TIMEOUT_S", 0.2)
        cuda.computes.clear()
        try:
            late = [fuser.submit(batch(seed)) for seed in range(2)]
            for ticket in late:
                with pytest.raises(EngineError, match="did not finish within"):
                    ticket.result()
            with pytest.raises(EngineError, match="did not finish within"):
                late[0].result()
        finally:
            cuda.computes.set()
            monkeypatch.setattr(worker, "REQUEST_TIMEOUT_S", 60.0)
        for seed in range(4):
            assert np.array_equal(fuser.fuse(*scene(seed)), expected[seed])
        with pytest.raises(EngineError, match="did not finish within"):  # what came too late is not delivered
            late[1].result()


def test_an_engine_whose_gpu_hangs_closes_with_an_error_and_frees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    fuser = open_on(cuda)
    fuser.prepare(16, 16)
    monkeypatch.setattr(worker, "REQUEST_TIMEOUT_S", 0.1)
    monkeypatch.setattr(completion, "END_TIMEOUT_S", 0.1)
    cuda.computes.clear()
    try:
        ticket = fuser.submit(batch(0))
        with pytest.raises(EngineError, match="does not respond"):
            fuser.close()
        with pytest.raises(EngineError, match="did not finish within"):
            ticket.result()
        assert "free" not in cuda.calls and not cuda.closed
    finally:
        cuda.computes.set()
    for thread in threading.enumerate():
        if thread.name.startswith("tensorrt-stream"):
            thread.join(20)


def test_the_first_use_of_a_size_may_take_as_long_as_compiling_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """``fuse`` prepares: its own wait would end before TensorRT-RTX has compiled."""
    cuda = FakeCuda()
    with open_on(cuda) as fuser:
        monkeypatch.setattr(worker, "REQUEST_TIMEOUT_S", 0.05)
        cuda.computes.clear()
        threading.Timer(0.5, cuda.computes.set).start()
        assert fuser.fuse(*scene(1)).shape == (16, 16)
        cuda.computes.clear()
        threading.Timer(0.5, cuda.computes.set).start()
        infrared = np.zeros((32, 16), np.uint8)
        assert fuser.submit(FusionBatch((infrared,), (infrared,))).result()[0].shape == (32, 16)


def test_an_engine_whose_completion_thread_cannot_use_the_gpu_does_not_open() -> None:
    class OnlyOneThread(FakeCuda):
        def bind_thread(self) -> None:
            if threading.current_thread().name.endswith("-results"):
                raise EngineError("CUDA: invalid device context")
            super().bind_thread()

    cuda = OnlyOneThread()
    with pytest.raises(EngineError, match="invalid device context"):
        open_on(cuda)
    assert cuda.closed
