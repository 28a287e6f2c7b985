"""Every live sink meets the contract of ``pipeline/sinks/base.py``; a new one adds a line to ``MAKERS``."""

import socket
import threading

import numpy as np
import pytest

from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.pipeline.encoding.live_encoder import LiveVideoOptions
from fusepipe.pipeline.sinks.base import StartableSink
from fusepipe.pipeline.sinks.live.preview import WebPreviewSink
from fusepipe.pipeline.sinks.live.rtsp import RtspServerSink
from fusepipe.pipeline.sinks.live.rtsp_push import RtspPushSink
from fusepipe.pipeline.testing import MS, frame

HOST = "127.0.0.1"
MAKERS = {
    "rtsp": lambda port: RtspServerSink(HOST, port, "roof", LiveVideoOptions()),
    "rtsp+push": lambda port: RtspPushSink(HOST, port, "roof", LiveVideoOptions()),
    "preview": lambda port: WebPreviewSink(HOST, port, "roof", dict),
}


def fused(index: int, shape: tuple[int, int] = (48, 64), colour: bool = False) -> FusedFrame:
    pixels = np.full(shape, 100 + index, np.uint8)
    visible = frame(Band.VISIBLE, index, index * 40 * MS, pixels=pixels, chroma=colour)
    pair = FramePair(index, PairState.SINGLE, Band.VISIBLE, None, visible)
    planes = (Plane(pixels), *visible.chroma)
    return FusedFrame(pair, planes, PairState.SINGLE, index, visible.capture_ns, visible.pts, visible.time_base)


@pytest.fixture(params=MAKERS)
def make(request):
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    before = set(threading.enumerate())
    yield lambda: MAKERS[request.param](port)
    assert set(threading.enumerate()) - before == set(), "no thread is left behind"


def test_it_starts_writes_and_reports_once(make):
    sink = make()
    sink.check()
    assert isinstance(sink, StartableSink) and sink.label in sink.announcement
    assert list(sink.outputs) == []
    sink.start()
    for index in range(3):
        sink.write(fused(index))
    report = sink.close()
    assert (report.path, report.frames) == (sink.label, 3)
    assert sink.close() is report, "close may be called twice"


def test_it_takes_frames_of_any_size_and_kind(make):
    sink = make()
    for index, shape in enumerate([(48, 64), (33, 47), (1, 1), (720, 1280)]):
        sink.write(fused(index, shape, colour=index % 2 == 0))
    assert sink.close().frames == 4


def test_it_closes_without_frames_and_without_a_start(make):
    assert make().close().frames == 0
    sink = make()
    sink.start()
    sink.start()
    assert sink.close().frames == 0


def test_check_opens_no_port(make):
    sink = make()
    for _ in range(2):
        sink.check()
    another = make()
    another.check()
    assert another.close().frames == sink.close().frames == 0


def test_an_address_can_be_reused_immediately(make):
    for _ in range(3):
        sink = make()
        sink.check()
        sink.start()
        sink.write(fused(0))
        sink.close()
