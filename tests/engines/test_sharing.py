"""Several rigs on one engine: their pairs share batches, their results and their ends do not mix."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.engine_requests import padding_multiple
from helpers.waiting import wait_for

from fusepipe.config.schema import FusionConfig
from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import Fuser, FuserBase, FuserInfo, FusionBatch, ReadyTicket, Ticket
from fusepipe.engines import sharing
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.backends.tensorrt.runtime import TensorRtFuser
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.engines.manifest import Shapes
from fusepipe.engines.sharing import SharedEngines
from fusepipe.rig.factories.fusers import lease_fuser

INFO = FuserInfo("stream", "tensorrt", "fp32", device="GPU", max_in_flight=2, max_batch=4)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Slow(FuserBase):
    """Gives the larger image of each pair; a batch waits for ``go``, and remembers its size."""

    info = INFO

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.batches: list[int] = []
        self.prepared: list[tuple[int, int, int]] = []
        self.threads: set[int] = set()
        self.closed = 0

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        self.prepared.append((height, width, batch))

    def submit(self, batch: FusionBatch) -> Ticket:
        self.threads.add(threading.get_ident())
        self.batches.append(len(batch.visible))
        if int(batch.visible[0][0, 0]) == 13:
            raise EngineError("thirteen")
        assert self.go.wait(20)
        return ReadyTicket([np.maximum(i, v) for i, v in zip(batch.infrared, batch.visible, strict=True)])

    def close(self) -> None:
        self.closed += 1
        super().close()


def one(level: int, height: int = 4) -> FusionBatch:
    image: Luma8 = np.full((height, 6), level, np.uint8)
    return FusionBatch((np.zeros_like(image),), (image,))


def leases(table: SharedEngines, engine: Fuser, count: int) -> list[Fuser]:
    return [table.lease("key", lambda: engine) for _ in range(count)]


def test_pairs_that_come_while_the_engine_computes_go_together() -> None:
    engine = Slow()
    rigs = leases(SharedEngines(), engine, 3)
    first = rigs[0].submit(one(1))
    wait_for(lambda: engine.batches)  # the engine is at work on it
    later = [rig.submit(one(level)) for level, rig in enumerate(rigs, 2)]
    higher = rigs[1].submit(one(9, height=8))
    engine.go.set()
    assert [int(ticket.result(20)[0][0, 0]) for ticket in (first, *later, higher)] == [1, 2, 3, 4, 9]
    assert engine.batches[:2] == [1, 2], "of three that waited two: batches are 1, 2, 4 ... pairs"
    assert sorted(engine.batches) == [1, 1, 1, 2] and len(engine.threads) == 1
    for rig in rigs:
        assert engine.closed == 0
        rig.close()
    assert engine.closed == 1


def test_an_error_reaches_the_rig_whose_pair_it_was_and_the_others_continue() -> None:
    engine = Slow()
    engine.go.set()
    first, second = leases(SharedEngines(), engine, 2)
    with pytest.raises(EngineError, match="thirteen"):
        first.submit(one(13)).result(20)
    assert int(second.submit(one(7)).result(20)[0][0, 0]) == 7
    first.close()
    with pytest.raises(EngineError, match="closed"):
        first.submit(one(1))
    assert int(second.submit(one(8)).result(20)[0][0, 0]) == 8
    with pytest.raises(UsageError, match="batch of 5 is more"):
        second.submit(FusionBatch([one(1).infrared[0]] * 5, [one(1).visible[0]] * 5))
    second.close()
    second.close()
    assert engine.closed == 1


def on_fake_cuda(cuda: FakeCuda) -> Fuser:
    multiple = padding_multiple()
    shapes = Shapes((multiple, multiple), (64, 48), (128, 128), batch=4)
    return TensorRtFuser(INFO, shapes, multiple, lambda: FakePlan(cuda, read_onnx("stream")), lambda: cuda)


@pytest.mark.parametrize("count", [1, 2])
def test_a_pair_that_comes_while_the_engine_computes_another_starts_immediately(count: int) -> None:
    cuda = FakeCuda()
    rigs = leases(SharedEngines(), on_fake_cuda(cuda), count)
    cuda.computes.clear()
    try:
        tickets = [rigs[0].submit(one(1, height=16))]
        wait_for(lambda: cuda.calls.get("wait", 0) == 1)  # it is waited for
        tickets.append(rigs[-1].submit(one(2, height=16)))
        wait_for(lambda: cuda.calls["record"] == 2)
    finally:
        cuda.computes.set()
    assert all(len(ticket.result(30)) == 1 for ticket in tickets)
    for rig in rigs:
        rig.close()


def test_pairs_of_one_rig_do_not_wait_for_each_other_in_a_batch() -> None:
    engine = Slow()
    first, second = leases(SharedEngines(), engine, 2)
    held = first.submit(one(1))
    wait_for(lambda: engine.batches)
    tickets = [second.submit(one(level)) for level in (2, 3)]
    engine.go.set()
    assert [int(ticket.result(20)[0][0, 0]) for ticket in (held, *tickets)] == [1, 2, 3]
    assert engine.batches == [1, 1, 1]
    first.close()
    second.close()


def test_a_call_that_the_engine_breaks_at_is_the_rigs_that_made_it() -> None:
    class Broken(Slow):
        def submit(self, batch: FusionBatch) -> Ticket:
            if int(batch.visible[0][0, 0]) == 14:
                raise ValueError("fourteen")
            return super().submit(batch)

    engine = Broken()
    engine.go.set()
    first, second = leases(SharedEngines(), engine, 2)
    for _ in range(3):
        with pytest.raises(EngineError, match="ValueError: fourteen"):
            first.submit(one(14)).result(20)
    assert int(second.submit(one(7)).result(20)[0][0, 0]) == 7
    first.close()
    second.close()
    assert engine.closed == 1


def test_an_engine_is_opened_once_and_again_after_the_last_rig() -> None:
    table, opened = SharedEngines(), []

    def open_engine() -> Fuser:
        opened.append(Slow())
        return opened[-1]

    first = table.lease("key", open_engine)
    other = table.lease("other", open_engine)
    second = table.lease("key", open_engine)
    second.prepare(4, 6)
    assert len(opened) == 2 and opened[0].prepared == [(4, 6, 1), (4, 6, 2)]
    for lease in (first, second, other):
        lease.close()
    again = table.lease("key", open_engine)
    assert len(opened) == 3
    again.close()


def test_an_engine_that_cannot_be_opened_is_tried_again() -> None:
    def fail() -> Fuser:
        raise EngineError("no GPU")

    table = SharedEngines()
    for _ in range(2):
        with pytest.raises(EngineError, match="no GPU"):
            table.lease("key", fail)
    with table.lease("key", Slow) as lease:
        assert lease.info is INFO


@pytest.fixture(scope="module")
def expected() -> Iterator[Callable[[Luma8, Luma8], Luma8]]:
    with load_model("stream", "openvino", "fp32") as reference:
        yield reference.fuse


def test_three_rigs_on_a_fake_gpu(expected: Callable[[Luma8, Luma8], Luma8]) -> None:
    cuda = FakeCuda()
    table = SharedEngines()
    seen: list[tuple[Luma8, Luma8, Luma8]] = []

    def rig(seed: int, fuser: Fuser) -> None:
        rng = np.random.default_rng(seed)
        with fuser:
            fuser.prepare(36, 44)
            for _ in range(6):
                ir, vis = rng.integers(0, 256, (2, 36, 44), np.uint8)
                tickets = [fuser.submit(FusionBatch((ir,), (vis,), (f"rig {seed}",))) for _ in range(2)]
                seen.extend((ir, vis, ticket.result(30)[0]) for ticket in tickets)

    threads = [threading.Thread(target=rig, args=(n, table.lease("key", lambda: on_fake_cuda(cuda)))) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(seen) == 36
    for ir, vis, fused in seen:
        assert int(np.abs(fused.astype(int) - expected(ir, vis)).max()) <= 1


def test_rigs_on_a_cpu_have_engines_of_their_own() -> None:
    first, second = (lease_fuser(FusionConfig(model="mean")) for _ in range(2))
    with first, second:
        assert first is not second


# -- rigs of different sizes


def test_a_rig_of_another_size_does_not_stall_the_first() -> None:
    """It gets an engine of its own: neither waits for the other's work or preparation."""
    table, engines = SharedEngines(), [Slow(), Slow()]
    opened = iter(engines)
    first, second, third = (table.lease("key", lambda: next(opened)) for _ in range(3))
    first.prepare(4, 6)
    ticket = first.submit(one(3))
    wait_for(lambda: engines[0].batches)  # it is at work until ``go``
    prepared = threading.Thread(target=second.prepare, args=(8, 6))
    prepared.start()
    prepared.join(10)
    waits = prepared.is_alive()
    for engine in engines:
        engine.go.set()
    prepared.join(20)
    assert not waits, "preparing a second size waited for the first rig's pairs"
    third.prepare(4, 6)
    assert {size[:2] for size in engines[0].prepared} == {(4, 6)} and engines[1].prepared[0] == (8, 6, 1)
    assert int(ticket.result(20)[0][0, 0]) == 3
    assert int(second.submit(one(5, height=8)).result(20)[0][0, 0]) == 5
    assert engines[0].batches == [1] and engines[1].batches == [1]
    second.prepare(4, 6)  # its camera changed its mode: it joins the first, and its own engine ends
    assert engines[1].closed == 1 and int(second.submit(one(7)).result(20)[0][0, 0]) == 7
    for rig in (first, second, third):
        rig.close()
    assert engines[0].closed == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("share-")]


def test_rigs_share_the_engine_where_a_further_one_cannot_be_opened(caplog: pytest.LogCaptureFixture) -> None:
    table, engine = SharedEngines(), Slow()
    engine.go.set()
    opened = iter([engine])

    def open_engine() -> Fuser:
        try:
            return next(opened)
        except StopIteration:
            raise EngineError("out of memory") from None

    first, second = (table.lease("key", open_engine) for _ in range(2))
    first.prepare(4, 6)
    second.prepare(8, 6)
    assert "the rigs share one: out of memory" in caplog.text and (8, 6, 1) in engine.prepared
    assert int(second.submit(one(5, height=8)).result(20)[0][0, 0]) == 5
    first.close()
    second.close()
    assert engine.closed == 1


def test_a_further_engine_that_runs_on_the_cpu_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    class OnCpu(Slow):
        info = dataclasses.replace(INFO, device="cpu")

    table, engine, fallback = SharedEngines(), Slow(), OnCpu()
    engine.go.set()
    opened = iter([engine, fallback])
    first, second = (table.lease("key", lambda: next(opened)) for _ in range(2))
    first.prepare(4, 6)
    second.prepare(8, 6)
    assert fallback.closed == 1 and "the rigs share one: a further one runs on a CPU" in caplog.text
    assert int(second.submit(one(5, height=8)).result(20)[0][0, 0]) == 5
    first.close()
    second.close()
    assert engine.closed == 1


def test_pairs_in_flight_while_a_rig_changes_its_engine_give_no_place_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "REQUEST_TIMEOUT_S", 0.05)
    table, engines = SharedEngines(), [Slow(), Slow()]
    opened = iter(engines)
    first, second = (table.lease("key", lambda: next(opened)) for _ in range(2))
    first.prepare(4, 6)
    unfinished = [second.submit(one(level)) for level in range(1, 1 + INFO.max_in_flight)]
    second.prepare(8, 6)  # none of them completes in time
    engines[0].go.set()
    assert [int(ticket.result(20)[0][0, 0]) for ticket in unfinished] == [1, 2]
    tickets = [second.submit(one(level, height=8)) for level in (3, 4)]
    with pytest.raises(EngineError, match=r"completed no request for 0\.05 s"):
        second.submit(one(5, height=8))
    engines[1].go.set()
    assert [int(ticket.result(20)[0][0, 0]) for ticket in tickets] == [3, 4]
    first.close()
    second.close()


class InTurn(FuserBase):
    """One pair at a time; remembers the level of each in the order in which they were started."""

    info = FuserInfo("stream", "tensorrt", "fp32", device="GPU", max_in_flight=1, max_batch=1)

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Semaphore(0)
        self.started: list[int] = []

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        """Any size."""

    def submit(self, batch: FusionBatch) -> Ticket:
        self.started.append(int(batch.visible[0][0, 0]))
        assert self.go.acquire(timeout=20)
        return ReadyTicket(list(batch.visible))


def test_a_rig_that_always_has_a_pair_delays_another_by_its_own_limit_at_most() -> None:
    engine = InTurn()
    greedy, modest = leases(SharedEngines(), engine, 2)
    submitting = threading.Thread(target=lambda: [greedy.submit(one(level)).result() for level in range(1, 6)])
    more = threading.Thread(target=lambda: [greedy.submit(one(level)) for level in range(11, 14)])
    submitting.start()
    wait_for(lambda: engine.started == [1])
    more.start()  # waits in submit: a lease has one pair in flight at a time, as the engine has
    ticket = modest.submit(one(100))
    for _ in range(9):
        engine.go.release()
    ticket.result()
    submitting.join(20)
    more.join(20)
    wait_for(lambda: len(engine.started) == 9)  # nobody asks for the result of the last pair of ``more``
    assert engine.started.index(100) == 1, engine.started
    assert sorted(engine.started) == [1, 2, 3, 4, 5, 11, 12, 13, 100]
    for lease in (greedy, modest):
        lease.close()


def test_a_rig_that_takes_no_results_holds_up_no_other() -> None:
    engine = InTurn()
    stalled, other = leases(SharedEngines(), engine, 2)
    for _ in range(9):
        engine.go.release()
    stalled.submit(one(1))  # nobody asks for its result
    for level in (2, 3, 4):
        (image,) = other.submit(one(level)).result()
        assert image[0, 0] == level
    for lease in (stalled, other):
        lease.close()
