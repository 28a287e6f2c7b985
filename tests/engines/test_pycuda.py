"""CUDA through PyCUDA, on a fake with its rules for contexts and threads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import pytest
from helpers import fake_pycuda
from helpers.fake_pycuda import FakePycuda

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import Cuda, OutOfGpuMemoryError, open_cuda


@pytest.fixture
def pycuda(monkeypatch: pytest.MonkeyPatch) -> FakePycuda:
    return fake_pycuda.install(monkeypatch)


def in_thread(work: Callable[[], None], name: str = "engine") -> None:
    """Runs it as an engine's thread does; raises what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            raised.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join(20)
    gc.collect()
    if raised:
        raise raised[0]


def use(cuda: Cuda) -> None:
    """What a slot does with CUDA."""
    stream, event, memory, host = cuda.stream(), cuda.event(), cuda.allocate(16), cuda.pinned(16)
    cuda.copy_in(memory, host, 16, stream)
    cuda.record(event, stream)
    cuda.wait(event)
    host.close()
    cuda.free(memory)
    cuda.destroy_event(event)
    cuda.destroy_stream(stream)


def test_an_engine_leaves_no_context_on_the_stack_of_its_thread(pycuda: FakePycuda) -> None:
    def work() -> None:
        cuda = open_cuda("pycuda")
        cuda.bind_thread()
        use(cuda)
        cuda.close()

    in_thread(work)
    assert not pycuda.aborted and not pycuda.dangling


def test_an_engine_that_ends_after_a_gpu_error_does_not_abort_the_process(pycuda: FakePycuda) -> None:
    """``Context.pop`` raises then, and leaves the stack as it is."""

    def work() -> None:
        cuda = open_cuda("pycuda")
        cuda.bind_thread()
        stream, event = cuda.stream(), cuda.event()
        pycuda.sticky = True
        with pytest.raises(EngineError, match="illegal memory access"):
            cuda.record(event, stream)
        cuda.close()

    in_thread(work)
    assert not pycuda.aborted


def test_the_primary_context_outlives_an_engine(pycuda: FakePycuda) -> None:
    """TensorRT and PyTorch compute in it; destroying it would take theirs away."""

    def work() -> None:
        cuda = open_cuda("pycuda")
        cuda.bind_thread()
        cuda.close()

    for _ in range(3):
        in_thread(work)
    assert pycuda.destroyed == 0 and pycuda.references == 1


def test_the_context_is_not_left_current_in_a_thread_that_only_asked_for_the_gpu(pycuda: FakePycuda) -> None:
    assert open_cuda().gpu() == open_cuda("pycuda").gpu() and open_cuda("pycuda").gpu().sm == "SM89"
    gc.collect()
    assert not pycuda.dangling and not pycuda.aborted and pycuda.references == 0


def test_streams_do_not_synchronise_with_the_default_stream_and_events_block(pycuda: FakePycuda) -> None:
    def work() -> None:
        cuda = open_cuda("pycuda")
        cuda.bind_thread()
        use(cuda)
        cuda.close()

    in_thread(work)
    assert pycuda.stream_flags == [1]  # CU_STREAM_NON_BLOCKING
    assert pycuda.event_flags == [1 | 2]  # BLOCKING_SYNC, DISABLE_TIMING


def test_another_thread_waits_with_a_context_of_its_own(pycuda: FakePycuda) -> None:
    def engine() -> None:
        cuda = open_cuda("pycuda")
        cuda.bind_thread()
        stream, event = cuda.stream(), cuda.event()
        cuda.record(event, stream)

        def wait() -> None:
            cuda.bind_thread()
            cuda.wait(event)
            cuda.unbind_thread()

        in_thread(wait, "results")
        cuda.close()

    in_thread(engine)
    assert pycuda.synchronised_by == ["results"] and not pycuda.aborted and pycuda.references == 1


def test_out_of_memory_is_an_error_of_its_own(pycuda: FakePycuda) -> None:
    def work() -> None:
        cuda = open_cuda("pycuda")
        cuda.bind_thread()
        try:
            cuda.allocate(1 << 30)
        finally:
            cuda.close()

    with pytest.raises(OutOfGpuMemoryError, match="out of memory"):
        in_thread(work)


def test_it_says_that_it_has_no_graphs(pycuda: FakePycuda) -> None:
    cuda = open_cuda("pycuda")
    assert not cuda.has_graphs
    for call in (cuda.begin_capture, cuda.end_capture, cuda.destroy_graph):
        with pytest.raises(EngineError, match="has no CUDA graphs"):
            call(1)
    with pytest.raises(EngineError, match="has no CUDA graphs"):
        cuda.launch(1, 2)
