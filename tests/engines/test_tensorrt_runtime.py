"""The TensorRT runtime on fake CUDA, which detects misuse; with a GPU, the same tests on hardware."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.engine_requests import padding_multiple
from helpers.gpu_here import require_gpu
from helpers.waiting import wait_for

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import FuserInfo, FusionBatch
from fusepipe.engines.backends.cuda.api import open_cuda
from fusepipe.engines.backends.cuda.fake import FakeCuda, MisuseError
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.backends.tensorrt.lanes import CACHED_SIZES
from fusepipe.engines.backends.tensorrt.plan import Plan
from fusepipe.engines.backends.tensorrt.runtime import TensorRtFuser, open_plan
from fusepipe.engines.choose import gpu_here
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.engines.manifest import Shapes

MULTIPLE = padding_multiple()
SHAPES = Shapes((MULTIPLE, MULTIPLE), (64, 48), (256, 256), batch=3)
INFO = FuserInfo("stream", "tensorrt", "fp32", max_in_flight=2, max_batch=3)


def scene(height: int, width: int, seed: int = 0) -> tuple[Luma8, Luma8]:
    rng = np.random.default_rng((seed, height, width))
    return rng.integers(0, 256, (height, width), np.uint8), rng.integers(0, 256, (height, width), np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Rig:
    """A fuser on fake CUDA, and its fakes."""

    def __init__(self, cuda: FakeCuda | None = None) -> None:
        self.cuda = cuda or FakeCuda()
        self.plan: FakePlan | None = None

        def load() -> Plan:
            self.plan = FakePlan(self.cuda, read_onnx("stream"))
            return self.plan

        self.fuser = TensorRtFuser(INFO, SHAPES, MULTIPLE, load, lambda: self.cuda)


def on_gpu() -> TensorRtFuser:
    """The shipped network as an fp32 engine, built and run on this machine's GPU."""
    backend, _ = require_gpu()
    from fusepipe.engines.backends.tensorrt import library as tensorrt_library
    from fusepipe.engines.builder import tensorrt_plan

    library = tensorrt_library.load_library(backend)
    plan, _ = tensorrt_plan.build_plan(library, read_onnx("stream"), SHAPES, tensorrt_plan.PlanOptions(), [])
    return open_plan("stream", backend, "fp32", plan, SHAPES, multiple=MULTIPLE)


@pytest.fixture(params=["fake", pytest.param("hardware", marks=pytest.mark.gpu)])
def fuser(request: pytest.FixtureRequest) -> Iterator[TensorRtFuser]:
    made = Rig().fuser if request.param == "fake" else on_gpu()
    with made:
        yield made


@pytest.fixture(scope="module")
def expected() -> Iterator[Callable[[Luma8, Luma8], Luma8]]:
    with load_model("stream", "openvino", "fp32") as reference:
        yield reference.fuse


Expected = Callable[[Luma8, Luma8], Luma8]


def close(given: Luma8, wanted: Luma8) -> bool:
    """Equal up to ties of rounding, which another device breaks otherwise."""
    return given.shape == wanted.shape and int(np.abs(given.astype(int) - wanted).max()) <= 1


@pytest.mark.parametrize("size", [(48, 64), (1, 1), (3, 7), (37, 53), (256, 255)])
def test_any_size_within_the_shapes(fuser: TensorRtFuser, expected: Expected, size: tuple[int, int]) -> None:
    pair = scene(*size)
    for _ in range(3):  # the second time captures a graph, the third launches it
        assert close(fuser.fuse(*pair), expected(*pair))


def test_results_come_in_order_and_belong_to_their_tickets(fuser: TensorRtFuser, expected: Expected) -> None:
    pairs = [scene(40 + 2 * (n % 2), 64, n) for n in range(12)]
    tickets = [fuser.submit(FusionBatch((p[0],), (p[1],))) for p in pairs]
    for ticket, pair in reversed(list(zip(tickets, pairs, strict=True))):
        assert close(ticket.result()[0], expected(*pair))


def test_a_batch(fuser: TensorRtFuser, expected: Expected) -> None:
    pairs = [scene(35, 50, seed) for seed in range(3)]
    fused = fuser.submit(FusionBatch([p[0] for p in pairs], [p[1] for p in pairs])).result()
    assert all(close(image, expected(*pair)) for image, pair in zip(fused, pairs, strict=True))


def test_sizes_and_batches_beyond_the_shapes_are_refused(fuser: TensorRtFuser) -> None:
    with pytest.raises(UsageError, match="outside this engine's sizes"):
        fuser.fuse(*scene(300, 64))
    infrared, visible = scene(8, 8)
    with pytest.raises(UsageError, match="batch of 4 is more"):
        fuser.submit(FusionBatch([infrared] * 4, [visible] * 4))
    assert fuser.fuse(infrared, visible).shape == (8, 8)


def test_results_may_be_fetched_by_another_thread_and_after_closing(expected: Expected) -> None:
    rig, pair = Rig(), scene(32, 32)
    ticket = rig.fuser.submit(FusionBatch((pair[0],), (pair[1],)))
    rig.fuser.close()
    rig.fuser.close()
    fetched: list[Luma8] = []
    thread = threading.Thread(target=lambda: fetched.append(ticket.result()[0]), name="collector")
    thread.start()
    thread.join(30)
    assert close(fetched[0], expected(*pair))
    with pytest.raises(EngineError, match="closed"):
        rig.fuser.fuse(*pair)
    assert rig.cuda.closed and rig.plan is not None and rig.plan.closed


def test_fixed_shapes_are_captured_once_a_slot_and_then_launched() -> None:
    rig = Rig()
    with rig.fuser as fuser:
        for seed in range(10):
            infrared, visible = scene(16, 16, seed)
            fuser.submit(FusionBatch((infrared,), (visible,))).result()
    assert rig.cuda.calls["begin_capture"] == 1  # one at a time: always the first slot
    assert rig.cuda.calls["launch"] == 9
    assert rig.cuda.calls["copy_in"] == 4  # once for real, once into the graph


def test_a_request_submitted_while_another_computes_starts_immediately(expected: Expected) -> None:
    """On the second slot: its copies overlap what computes."""
    rig, pairs = Rig(), [scene(64, 64, seed) for seed in range(2)]
    batches = [FusionBatch((infrared,), (visible,)) for infrared, visible in pairs]
    calls, computes = rig.cuda.calls, rig.cuda.computes
    with rig.fuser as fuser:
        computes.clear()
        try:
            tickets = [fuser.submit(batches[0])]
            wait_for(lambda: calls.get("wait", 0) == 1)  # the first one is waited for
            tickets.append(fuser.submit(batches[1]))
            wait_for(lambda: calls["record"] == 2)
        finally:
            computes.set()
        assert all(close(t.result()[0], expected(*pair)) for t, pair in zip(tickets, pairs, strict=True))


def test_no_more_requests_than_slots_are_in_flight() -> None:
    rig = Rig()
    with rig.fuser as fuser, ThreadPoolExecutor(1) as caller:
        rig.cuda.computes.clear()
        try:
            infrared, visible = scene(8, 8)
            batch = FusionBatch([infrared], [visible])
            tickets = [fuser.submit(batch) for _ in range(2)]
            third = caller.submit(fuser.submit, batch)
            with pytest.raises(TimeoutError):
                third.result(0.2)
        finally:
            rig.cuda.computes.set()
        assert [len(ticket.result()) for ticket in (*tickets, third.result(30))] == [1, 1, 1]


def test_a_size_that_is_prepared_is_set_up_and_captured_before_a_pair_comes() -> None:
    rig = Rig()
    with rig.fuser as fuser:
        fuser.prepare(20, 30)
        assert rig.cuda.calls["begin_capture"] == 2 and "launch" not in rig.cuda.calls
        copies, made = rig.cuda.calls["copy_in"], rig.cuda.calls["allocate"]
        fuser.prepare(20, 30)
        fuser.fuse(*scene(20, 30))
        assert rig.cuda.calls["launch"] == 1
        assert (rig.cuda.calls["copy_in"], rig.cuda.calls["allocate"]) == (copies, made)


def test_buffers_are_reused_and_old_sizes_are_freed() -> None:
    rig = Rig()
    with rig.fuser as fuser:
        for _ in range(2):
            for side in range(CACHED_SIZES + 2):
                fuser.fuse(*scene(10 + 16 * side, 10))
        for _ in range(5):
            fuser.fuse(*scene(10, 10))
    assert rig.cuda.calls["allocate"] == rig.cuda.calls["free"]  # FakeCuda.close found no leak either


def test_a_failure_is_raised_to_the_caller() -> None:
    rig = Rig(FakeCuda(fail="copy_out", after=1))
    infrared, visible = scene(16, 16)
    first = rig.fuser.submit(FusionBatch((infrared,), (visible,)))  # its capture fails: launched call by call
    assert first.result()[0].shape == (16, 16)
    for seed in range(5):  # more than may be under way: none keeps its place
        with pytest.raises(EngineError, match="copy_out failed"):
            rig.fuser.fuse(*scene(16, 16, seed))
    rig.fuser.close()  # raises where anything was not waited for


class BindingError(Exception):
    """As pycuda's: of no class that one would catch by name."""


@pytest.mark.parametrize("error", [EngineError, BindingError])
@pytest.mark.parametrize("call", ["begin_capture", "end_capture"])
def test_a_capture_that_fails_loses_no_image(call: str, error: type[Exception], expected: Expected) -> None:
    with Rig(FakeCuda(fail=call, error=error)).fuser as fuser:
        for seed in range(3):
            assert close(fuser.fuse(*scene(16, 16, seed)), expected(*scene(16, 16, seed)))


def test_an_error_of_a_binding_is_raised_and_the_next_request_is_served() -> None:
    rig = Rig(FakeCuda(fail="copy_in", error=BindingError))
    with rig.fuser as fuser:
        for _ in range(3):
            with pytest.raises(EngineError, match="BindingError: CUDA: copy_in failed"):
                fuser.fuse(*scene(16, 16))
        rig.cuda.fail = ""
        assert fuser.fuse(*scene(16, 16)).shape == (16, 16)


@pytest.mark.parametrize("call", ["allocate", "pinned", "stream", "event"])
def test_a_failure_while_buffers_are_made_leaks_nothing(call: str) -> None:
    rig = Rig(FakeCuda(fail=call, after=1))
    with pytest.raises(EngineError, match=f"{call} failed"):
        rig.fuser.fuse(*scene(16, 16))
    rig.fuser.close()  # raises where anything was not freed


def test_a_failure_while_freeing_does_not_stop_the_rest_from_being_freed() -> None:
    rig = Rig(FakeCuda(fail="destroy_stream"))
    assert rig.fuser.fuse(*scene(16, 16)).shape == (16, 16)
    with pytest.raises(EngineError, match="destroy_stream failed"):
        rig.fuser.close()
    assert rig.cuda.closed and rig.plan is not None and rig.plan.closed
    assert rig.cuda.calls["allocate"] == rig.cuda.calls["free"]


@pytest.mark.parametrize("error", [EngineError, BindingError])
def test_a_plan_that_cannot_be_loaded_fails_immediately(error: type[Exception]) -> None:
    cuda = FakeCuda()

    def load() -> Plan:
        raise error("tensorrt refuses the plan: built for another GPU")

    with pytest.raises(EngineError, match="another GPU"):
        TensorRtFuser(INFO, SHAPES, MULTIPLE, load, lambda: cuda)
    assert cuda.closed and not [t for t in threading.enumerate() if t.name == "tensorrt-stream"]


def test_without_a_gpu_the_reason_names_both_packages() -> None:
    if gpu_here()[0] is not None:
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError, match=r"no GPU can be used: cuda-bindings.*pycuda.*pip install"):
        open_cuda()


# -- the fake: each misuse is detected


@pytest.fixture
def cuda() -> FakeCuda:
    made = FakeCuda()
    made.bind_thread()
    return made


def misuse_read_early(cuda: FakeCuda) -> None:
    stream, memory, host = cuda.stream(), cuda.allocate(16), cuda.pinned(16)
    cuda.copy_out(host, memory, 16, stream)
    host.view()


def misuse_free_twice(cuda: FakeCuda) -> None:
    memory = cuda.allocate(16)
    cuda.free(memory)
    cuda.free(memory)


def misuse_use_after_free(cuda: FakeCuda) -> None:
    stream, memory, host = cuda.stream(), cuda.allocate(16), cuda.pinned(16)
    event = cuda.event()
    cuda.copy_in(memory, host, 16, stream)
    cuda.record(event, stream)
    cuda.free(memory)
    cuda.wait(event)


def misuse_overrun(cuda: FakeCuda) -> None:
    cuda.copy_in(cuda.allocate(16), cuda.pinned(32), 32, cuda.stream())


def misuse_leak(cuda: FakeCuda) -> None:
    cuda.pinned(16)
    cuda.close()


def misuse_graph_of_freed_memory(cuda: FakeCuda) -> None:
    stream, memory, host, event = cuda.stream(), cuda.allocate(16), cuda.pinned(16), cuda.event()
    cuda.begin_capture(stream)
    cuda.copy_in(memory, host, 16, stream)
    graph = cuda.end_capture(stream)
    host.close()
    cuda.launch(graph, stream)
    cuda.record(event, stream)
    cuda.wait(event)


def misuse_plan_before_its_context(cuda: FakeCuda) -> None:
    plan = FakePlan(cuda, read_onnx("stream"))
    plan.context(cuda.stream(), eager=True)
    plan.close()


def misuse_context_left(cuda: FakeCuda) -> None:
    FakePlan(cuda, read_onnx("stream")).context(cuda.stream(), eager=True)
    cuda.close()


def misuse_context_after_close(cuda: FakeCuda) -> None:
    context = FakePlan(cuda, read_onnx("stream")).context(cuda.stream(), eager=True)
    context.close()
    context.execute(cuda.stream())


def misuse_wrong_handle(cuda: FakeCuda) -> None:
    cuda.record(cuda.stream(), cuda.stream())


def misuse_other_thread(cuda: FakeCuda) -> None:
    found: list[Exception] = []

    def call() -> None:
        try:
            cuda.allocate(1)
        except MisuseError as error:
            found.append(error)

    thread = threading.Thread(target=call, name="stranger")
    thread.start()
    thread.join(10)
    raise found[0]


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (misuse_read_early, "in flight"),
        (misuse_free_twice, "freed already"),
        (misuse_use_after_free, "after it was freed"),
        (misuse_overrun, "more than"),
        (misuse_leak, "not freed: pinned"),
        (misuse_graph_of_freed_memory, "after it was freed"),
        (misuse_plan_before_its_context, "before its contexts"),
        (misuse_context_left, "not freed: context, plan, stream"),
        (misuse_context_after_close, "after it was closed"),
        (misuse_wrong_handle, "not a valid event"),
        (misuse_other_thread, "does not own"),
    ],
)
def test_the_fake_detects(misuse: Callable[[FakeCuda], None], message: str, cuda: FakeCuda) -> None:
    with pytest.raises(MisuseError, match=message):
        misuse(cuda)


def test_the_fake_returns_stale_bytes_until_its_event_is_reached(cuda: FakeCuda) -> None:
    stream, memory, host, event = cuda.stream(), cuda.allocate(4), cuda.pinned(4), cuda.event()
    host.view()[:] = [1, 2, 3, 4]
    cuda.copy_in(memory, host, 4, stream)
    cuda.record(event, stream)
    assert cuda.bytes_at(memory, 4).tolist() == [0x5A] * 4
    cuda.wait(event)
    assert cuda.bytes_at(memory, 4).tolist() == [1, 2, 3, 4]
