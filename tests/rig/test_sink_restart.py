"""Outputs that fail while clients are connected: they listen again on the same port, and clients can reconnect."""

import urllib.request

import av
import pytest
from faults.bench import Viewer, until
from helpers.ports import free_port

from fusepipe.config.schema import Rig
from fusepipe.rig.api import Pipeline

HOST = "127.0.0.1"


@pytest.fixture
def rig():
    """A running pipeline that serves by RTSP and on a page, and the ports of both."""
    rtsp, page = free_port(), free_port()
    pipeline = Pipeline(
        Rig.model_validate(
            {
                "name": "roof",
                "infrared": {"url": "synthetic://street?band=infrared&size=80x60&fps=15&duration=300s&pace=real"},
                "visible": {"url": "synthetic://street?band=visible&size=160x120&fps=15&duration=300s&pace=real"},
                "registration": {"calibration": "synthetic://street"},
                "fusion": {"model": "mean"},
                "sinks": [{"rtsp": f"rtsp://{HOST}:{rtsp}/roof"}, {"preview": f"http://{HOST}:{page}"}],
            }
        )
    )
    pipeline.start()
    until(lambda: all(runner.started for runner in pipeline.graph.runners), 60, "the outputs do not listen")
    yield pipeline, rtsp, page
    pipeline.drain()
    assert pipeline.wait(30)


def fails(frame):
    raise ValueError("a fault of this sink")


def failed_and_back(pipeline, number):
    pipeline.graph.runners[number].sink.write = fails
    until(lambda: pipeline.graph.sink_states()[number]["failures"] == 1, 20, "the sink did not fail")
    until(lambda: pipeline.graph.sink_states()[number]["up"], 20, "the sink did not come back")


@pytest.mark.timeout(200)
def test_a_failed_rtsp_server_restarts_although_a_client_was_connected(rig):
    pipeline, port, _ = rig
    url = f"rtsp://{HOST}:{port}/roof"
    first = Viewer(url)
    try:
        until(lambda: len(first.times_s) > 5, 40, "the viewer gets no frames")
        failed_and_back(pipeline, 0)
        until(lambda: first.ended, 10, "the stream did not end for the client")
    finally:
        first.close()
    again = Viewer(url)
    try:
        until(lambda: len(again.times_s) > 5, 40, "no client can reconnect")
    finally:
        again.close()
    assert not isinstance(again.problem, av.FFmpegError)
    assert pipeline.graph.sink_states()[1]["failures"] == 0, "the page did not notice"


@pytest.mark.timeout(200)
def test_a_failed_preview_page_restarts_although_a_viewer_was_connected(rig):
    pipeline, _, port = rig
    live = f"http://{HOST}:{port}/rigs/roof/live.mjpg"
    with urllib.request.urlopen(live, timeout=40) as watching:
        assert watching.readline() == b"--frame\r\n"
        failed_and_back(pipeline, 1)
        while watching.read(65536):  # ends, or the test's time does
            pass
    with urllib.request.urlopen(live, timeout=40) as watching:
        assert len(watching.read(20_000)) == 20_000
    assert pipeline.graph.sink_states()[0]["failures"] == 0
