"""GPU memory of the TensorRT runtime, on fake CUDA with limited memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from helpers.engine_requests import padding_multiple
from helpers.waiting import wait_for

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import Fuser, FuserInfo, FusionBatch
from fusepipe.engines.backends.cuda.api import OutOfGpuMemoryError
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt.fake import SCRATCH_BYTES, FakePlan
from fusepipe.engines.backends.tensorrt.lanes import CACHED_SIZES, Lanes
from fusepipe.engines.backends.tensorrt.runtime import TensorRtFuser
from fusepipe.engines.backends.tensorrt.slots import SlotSize
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.engines.manifest import Shapes

MULTIPLE = padding_multiple()
SHAPES = Shapes((MULTIPLE, MULTIPLE), (64, 48), (1920, 1088), batch=4)
INFO = FuserInfo("stream", "tensorrt", "fp32", max_in_flight=2, max_batch=4)
LANES = 2
BUFFERS = 3
"""Buffers of a slot, of one byte a pixel: infrared, visible, fused."""


def scene(height: int, width: int, seed: int = 0) -> tuple[Luma8, Luma8]:
    rng = np.random.default_rng((seed, height, width))
    return rng.integers(0, 256, (height, width), np.uint8), rng.integers(0, 256, (height, width), np.uint8)


def batch(height: int, width: int, seed: int = 0) -> FusionBatch:
    infrared, visible = scene(height, width, seed)
    return FusionBatch((infrared,), (visible,))


def open_on(cuda: FakeCuda, *, capturable: bool = True) -> TensorRtFuser:
    def load() -> FakePlan:
        return FakePlan(cuda, read_onnx("stream"), capturable=capturable)

    return TensorRtFuser(INFO, SHAPES, MULTIPLE, load, lambda: cuda)


@pytest.fixture(scope="module")
def reference() -> Iterator[Fuser]:
    with load_model("stream", "openvino", "fp32") as fuser:
        yield fuser


def agree(given: Luma8, wanted: Luma8) -> bool:
    """Equal up to ties of rounding."""
    return given.shape == wanted.shape and int(np.abs(given.astype(int) - wanted).max()) <= 1


def padded(side: int) -> int:
    return -(-side // MULTIPLE) * MULTIPLE


def test_memory_is_for_the_sizes_in_use_not_for_the_largest_that_the_plan_accepts() -> None:
    cuda = FakeCuda()
    with open_on(cuda) as fuser:
        fuser.prepare(48, 64)
    assert cuda.peak_bytes == LANES * padded(48) * padded(64) * (SCRATCH_BYTES + BUFFERS)


def test_the_sizes_share_the_scratch_memory_of_a_lane() -> None:
    """Eight sizes need as much as the largest of them, once for each request in flight."""
    cuda, sides = FakeCuda(), [16 * (n + 1) for n in range(CACHED_SIZES)]
    with open_on(cuda) as fuser:
        for side in sides:
            fuser.prepare(side, side)
    largest = padded(sides[-1]) ** 2
    assert cuda.peak_bytes <= LANES * (SCRATCH_BYTES * largest + BUFFERS * sum(padded(side) ** 2 for side in sides))


@pytest.mark.parametrize("capturable", [True, False])
def test_results_are_right_when_scratch_memory_grows_between_requests(reference: Fuser, capturable: bool) -> None:
    """A graph that was captured for the smaller size has the address of memory that was freed."""
    cuda = FakeCuda()
    with open_on(cuda, capturable=capturable) as fuser:
        for height, width in ((16, 16), (64, 64), (16, 16), (128, 96), (64, 64), (16, 16), (16, 16)):
            for seed in range(2):
                pair = scene(height, width, seed)
                assert agree(fuser.fuse(*pair), reference.fuse(*pair))
    assert ("begin_capture" in cuda.calls) == capturable


def test_the_least_recently_used_size_is_dropped_when_memory_is_out(reference: Fuser) -> None:
    room = LANES * 64 * 64 * (SCRATCH_BYTES + 2 * BUFFERS)  # two sizes of 64x64, not four
    cuda = FakeCuda(memory_bytes=room)
    with open_on(cuda) as fuser:
        for _ in range(2):
            for height, width in ((64, 64), (64, 60), (60, 64), (56, 64)):
                pair = scene(height, width)
                assert agree(fuser.fuse(*pair), reference.fuse(*pair))
        made = cuda.calls["allocate"]
        fuser.fuse(*scene(56, 64))
        assert cuda.calls["allocate"] == made, "the most recent size was dropped"
    assert cuda.peak_bytes <= room


def test_scratch_memory_of_a_dropped_size_is_freed_with_it(reference: Fuser) -> None:
    """A large size, then many small ones that need the memory it had."""
    room = LANES * 128 * 128 * (SCRATCH_BYTES + BUFFERS) + 64
    cuda = FakeCuda(memory_bytes=room)
    with open_on(cuda) as fuser:
        fuser.fuse(*scene(128, 128))
        fuser.prepare(64, 64, batch=4)  # the same scratch memory; its buffers do not fit beside those of the large size
        assert cuda.used_bytes <= room
        fuser.fuse(*scene(32, 32))
        pair = scene(128, 128, 1)
        assert agree(fuser.fuse(*pair), reference.fuse(*pair))


def test_a_size_that_does_not_fit_at_all_is_refused_and_smaller_ones_still_work(reference: Fuser) -> None:
    cuda = FakeCuda(memory_bytes=LANES * 64 * 64 * (SCRATCH_BYTES + BUFFERS))
    with open_on(cuda) as fuser:
        with pytest.raises(OutOfGpuMemoryError, match=r"out of memory.* for 1920x1088 in batches of 1"):
            fuser.fuse(*scene(1088, 1920))
        with pytest.raises(OutOfGpuMemoryError, match="1920x1088"):
            fuser.submit(batch(1088, 1920)).result()
        pair = scene(64, 64)
        assert agree(fuser.fuse(*pair), reference.fuse(*pair))


def test_a_size_in_flight_is_not_dropped_and_the_next_one_waits_for_it(reference: Fuser) -> None:
    """There is room for one of the two sizes; the second request is served when the first has completed."""
    cuda, sizes = FakeCuda(memory_bytes=64 * 64 * (SCRATCH_BYTES + BUFFERS)), ((64, 64), (48, 64))
    assert padded(48) < padded(64)
    with open_on(cuda) as fuser:
        cuda.computes.clear()
        try:
            tickets = [fuser.submit(batch(*size)) for size in sizes]
            wait_for(lambda: cuda.calls.get("allocate", 0) > BUFFERS + 1)  # the second was tried
            assert "free" not in cuda.calls, "memory of the size in flight was freed"
        finally:
            cuda.computes.set()
        for ticket, (height, width) in zip(tickets, sizes, strict=True):
            assert agree(ticket.result()[0], reference.fuse(*scene(height, width)))


def test_a_failed_allocation_leaks_nothing_and_is_no_end() -> None:
    cuda = FakeCuda(fail="allocate", after=2)
    with open_on(cuda) as fuser:
        with pytest.raises(EngineError, match="allocate failed"):
            fuser.fuse(*scene(16, 16))
        cuda.fail = ""
        assert fuser.fuse(*scene(16, 16)).shape == (16, 16)


def test_kernels_are_compiled_before_the_first_pair_and_in_the_background_for_sizes_that_come_later() -> None:
    """TensorRT-RTX: a folder of mixed sizes, or a second rig, must not wait for each size to be compiled."""
    cuda = FakeCuda()
    plans: list[FakePlan] = []

    def load() -> FakePlan:
        plans.append(FakePlan(cuda, read_onnx("stream"), capturable=False))
        return plans[0]

    with TensorRtFuser(INFO, SHAPES, MULTIPLE, load, lambda: cuda) as fuser:
        fuser.prepare(16, 16)
        assert plans[0].eager == [True, True] and plans[0].saves == 1  # the kernels are saved now, not only at the end
        fuser.prepare(16, 16)
        assert plans[0].saves == 1
        fuser.submit(batch(32, 16)).result()
        fuser.prepare(16, 48)
        assert plans[0].eager == [True, True, False, False, False] and plans[0].saves == 2
    assert "begin_capture" not in cuda.calls  # the library captures graphs itself


def size(side: int) -> SlotSize:
    return SlotSize((1, side, side))


def bound(memory_bytes: int) -> FakeCuda:
    cuda = FakeCuda(memory_bytes=memory_bytes)
    cuda.bind_thread()
    return cuda


def test_the_size_used_least_recently_is_the_one_that_is_dropped() -> None:
    cuda = FakeCuda()
    with open_on(cuda) as fuser:
        for n in range(CACHED_SIZES):
            fuser.prepare(16 * (n + 1), 16)
        fuser.prepare(16, 16)
        fuser.prepare(16, 32)
        made = cuda.calls["allocate"]
        fuser.prepare(16, 16)
        assert cuda.calls["allocate"] == made


def test_lanes_trim_scratch_memory_and_keep_what_executes() -> None:
    room = 64 * 64 * (SCRATCH_BYTES + BUFFERS)
    cuda = bound(room)
    lanes = Lanes(cuda, FakePlan(cuda, read_onnx("stream")), LANES)
    lanes.slot(size(64), 0, eager=True, busy={})
    with pytest.raises(OutOfGpuMemoryError, match="for 32x32 in batches of 4"):
        lanes.slot(SlotSize((4, 32, 32)), 1, eager=True, busy={0: size(64)})
    assert cuda.used_bytes >= room - 4096, "the size that executes was freed"
    lanes.slot(size(32), 0, eager=True, busy={})
    assert cuda.used_bytes == 32 * 32 * (SCRATCH_BYTES + BUFFERS)
    lanes.close()
    assert cuda.used_bytes == 0
