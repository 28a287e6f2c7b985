"""Graph and supervisor: the first failure stops all threads, nothing hangs, files are finalised."""

import threading
import time

import numpy as np
import pytest

from fusepipe.core.errors import FusepipeError, SinkError
from fusepipe.core.frames import Band, PairState
from fusepipe.core.fuser import FunctionFuser, FuserInfo
from fusepipe.pipeline.graph import Graph
from fusepipe.pipeline.mailbox import Mailbox
from fusepipe.pipeline.measures.run_statistics import RunStatistics
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.run_limits import RunLimits
from fusepipe.pipeline.stages.fusion import FusionStep
from fusepipe.pipeline.stages.registration import Registration
from fusepipe.pipeline.stages.tonemap import ToneMap
from fusepipe.pipeline.supervisor import Supervisor
from fusepipe.pipeline.testing import MS, CollectSink, ListSource, frame

IR, VIS = Band.INFRARED, Band.VISIBLE


def mean_fuser():
    return FunctionFuser(
        FuserInfo("mean", "test", "uint8"), lambda i, v: ((i.astype(int) + v + 1) // 2).astype(np.uint8)
    )


def make_graph(*, count=20, endless=False, sinks=None, limits=None, clock="media", fuser=None, transforms=()):
    statistics = RunStatistics()
    fuser = fuser or mean_fuser()
    return Graph(
        "test",
        sources=[
            ListSource(band, [frame(band, i, i * 40 * MS) for i in range(count)], endless=endless, clock=clock)
            for band in (IR, VIS)
        ],
        pairer=TimePairer(),
        transforms=[Registration(lambda i, v: None, (12, 8)), ToneMap(None, statistics.warn), *transforms],
        fuser=fuser,
        fusion=FusionStep(fuser),
        size=(8, 12),
        sinks=[CollectSink(), CollectSink()] if sinks is None else sinks,
        statistics=statistics,
        limits=limits,
    )


def run(graph, timeout_s=10):
    graph.start()
    assert graph.wait(timeout_s), "the graph did not end"
    return graph


def test_every_pair_reaches_every_sink_in_order():
    sinks = [CollectSink(), CollectSink()]
    graph = run(make_graph(sinks=sinks))
    assert graph.error is None
    for sink in sinks:
        assert [f.index for f in sink.frames] == list(range(20))
        assert [f.capture_ns for f in sink.frames] == [i * 40 * MS for i in range(20)]
        assert sink.closed == 1
    assert graph.statistics.snapshot()["states"] == {PairState.FUSED: 20}


def test_a_slow_sink_applies_back_pressure_to_files_and_nothing_is_lost():
    slow, quick = CollectSink(delay_s=0.01), CollectSink()
    run(make_graph(count=40, sinks=[slow, quick]))
    assert len(slow.frames) == len(quick.frames) == 40


class FailingSink(CollectSink):
    """Fails at its fifth frame."""

    def write(self, frame):
        super().write(frame)
        if len(self.frames) == 5:
            raise SinkError("the disk is gone")


def test_a_live_rig_continues_without_a_failed_sink():
    bad, good = FailingSink(), CollectSink()
    graph = make_graph(endless=True, clock="wall", sinks=[bad, good], limits=RunLimits(max_pairs=200))
    run(graph)
    assert len(bad.frames) == 5 and bad.closed == 1
    assert len(good.frames) > 5 and good.closed == 1
    assert isinstance(graph.error, SinkError), "the end of the run reports it"


def test_a_live_rig_ends_with_its_last_sink():
    graph = run(make_graph(endless=True, clock="wall", sinks=[FailingSink(), FailingSink()]))
    assert isinstance(graph.error, SinkError)


@pytest.mark.parametrize("limits", [RunLimits(max_pairs=7), RunLimits(duration_ns=7 * 40 * MS)])
def test_limits_end_an_endless_run(limits):
    sinks = [CollectSink()]
    graph = run(make_graph(endless=True, sinks=sinks, limits=limits))
    assert graph.error is None and len(sinks[0].frames) == 7 and sinks[0].closed == 1


def test_a_section_of_a_run_has_the_pairs_of_its_times():
    sinks = [CollectSink()]
    limits = RunLimits(begin_ns=3 * 40 * MS, end_ns=9 * 40 * MS)
    graph = run(make_graph(endless=True, sinks=sinks, limits=limits))
    assert graph.error is None
    assert [frame.capture_ns for frame in sinks[0].frames] == [index * 40 * MS for index in range(3, 9)]
    assert sum(graph.statistics.snapshot()["states"].values()) == 6


def test_drain_finishes_frames_in_flight():
    sinks = [CollectSink(delay_s=0.002)]
    graph = make_graph(endless=True, sinks=sinks)
    graph.start()
    while len(sinks[0].frames) < 5:
        assert not graph.wait(0.01)
    graph.drain()
    assert graph.wait(5)
    assert graph.error is None
    assert sinks[0].closed == 1
    made = sum(graph.statistics.snapshot()["states"].values())
    assert len(sinks[0].frames) == made, "every pair that was made was written"


class BrokenError(RuntimeError):
    """What the tests below inject."""


STAGES = ["infrared", "visible", "paired", "registered", "sink-1", "sink-2"]


@pytest.mark.parametrize("boxes", ["empty", "full"])
@pytest.mark.parametrize("side", ["put", "get"])
@pytest.mark.parametrize("name", STAGES)
def test_a_failing_stage_ends_the_run_within_two_seconds_and_files_are_finalised(name, side, boxes, monkeypatch):
    """Fails the producer (put) or the consumer (get) of each mailbox, early or with every mailbox full."""
    sinks = [CollectSink(), CollectSink()]
    graph = make_graph(endless=True, sinks=sinks)
    box = graph.mailboxes[name]
    armed = threading.Event()
    if boxes == "empty":
        armed.set()
    original_poll, original_put = box.poll, box.put

    def poll():
        if armed.is_set():
            raise BrokenError(name)
        return original_poll()

    def put(item):
        if armed.is_set():
            raise BrokenError(name)
        original_put(item)

    hold = threading.Event()
    if boxes == "full":  # nothing leaves the last mailboxes until every mailbox before them is full
        for sink in sinks:
            monkeypatch.setattr(sink, "write", lambda frame, sink=sink: (hold.wait(10), sink.frames.append(frame)))
    if side == "put":
        monkeypatch.setattr(box, "put", put)
    else:
        monkeypatch.setattr(box, "poll", poll)
    graph.start()
    if boxes == "full":
        deadline = time.monotonic() + 5
        while any(b.depth < b.capacity for b in graph.mailboxes.values()):
            assert time.monotonic() < deadline, graph.depths()
            graph.wait(0.005)
        armed.set()
        hold.set()
    killed = time.monotonic()
    assert graph.wait(2), f"still running: {[t.name for t in threading.enumerate()]}"
    assert time.monotonic() - killed < 2
    assert isinstance(graph.error, BrokenError)
    assert [sink.closed for sink in sinks] == [1, 1], "every sink is finalised, also after a failure elsewhere"


@pytest.mark.parametrize("where", ["source", "pairer", "transform", "fuser", "sink"])
def test_an_exception_in_the_work_of_a_stage_names_the_stage(where, monkeypatch):
    def broken(*args):
        raise BrokenError(where)

    sinks, fuser = [CollectSink(), CollectSink()], mean_fuser()
    graph = make_graph(endless=True, sinks=sinks, fuser=fuser, transforms=[broken] if where == "transform" else [])
    if where == "source":
        monkeypatch.setattr(ListSource, "frames", broken)
    elif where == "pairer":
        monkeypatch.setattr(graph.pairer, "push", broken)
    elif where == "fuser":
        monkeypatch.setattr(fuser, "submit", broken)
    elif where == "sink":
        monkeypatch.setattr(sinks[1], "write", broken)
    run(graph, 2)
    thread = {"source": "read-", "pairer": "pair", "transform": "register", "fuser": "fuse", "sink": "write-2"}[where]
    assert isinstance(graph.error, BrokenError)
    assert graph.supervisor.failed_thread.startswith(f"test/{thread}")
    assert [sink.closed for sink in sinks] == [1, 1]


def test_no_thread_outlives_its_graph():
    before = set(threading.enumerate())
    run(make_graph())
    assert set(threading.enumerate()) <= before


def test_live_mailboxes_drop_the_oldest_and_count():
    sinks = [CollectSink(delay_s=0.05)]
    graph = make_graph(count=60, sinks=sinks, clock="wall")
    run(graph)
    assert graph.error is None
    assert sum(graph.dropped().values()) > 0
    indices = [f.index for f in sinks[0].frames]
    assert indices == sorted(indices)


def test_a_thread_that_does_not_end_is_named(monkeypatch):
    monkeypatch.setattr("fusepipe.pipeline.supervisor.DRAIN_S", 0.05)
    monkeypatch.setattr("fusepipe.pipeline.supervisor.JOIN_S", 0.05)
    release = threading.Event()
    supervisor = Supervisor("rig")
    supervisor.spawn("stuck", lambda: release.wait(10))
    supervisor.start()
    supervisor.drain()
    with pytest.raises(FusepipeError, match="rig/stuck"):
        supervisor.wait(5)
    release.set()
    for thread in [t for t in threading.enumerate() if t.name == "rig/stuck"]:
        thread.join(5)
    assert supervisor.finished


def test_mailboxes_of_a_graph_are_bounded():
    graph = make_graph()
    assert all(isinstance(b, Mailbox) and b.capacity <= 8 for b in graph.mailboxes.values())
    run(graph)
