"""RTSP cameras: gst-rtsp-server as the peer."""

import logging
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from helpers.live_sources import PATIENT, S, collect
from helpers.waiting import wait_for
from peers.cameras import H265_ELEMENTS, gst_rtsp_server

from fusepipe.core.frames import Band
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.sources.live.camera import LiveSource
from fusepipe.pipeline.sources.live.connection_options import LiveOptions
from fusepipe.pipeline.sources.live.failures import LiveError


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_an_rtsp_camera_stalls_dies_and_returns_with_another_size(rtsp_camera, transport, caplog):
    caplog.set_level(logging.INFO)
    camera = rtsp_camera()
    source = LiveSource(camera.url, Band.VISIBLE, LiveOptions(transport, None, 3 * S, S))
    info = source.open()
    assert (info.width, info.height, info.codec, info.grey) == (320, 240, "h264", False)
    timers = []

    def later(seconds, action):
        timers.append(threading.Timer(seconds, action))
        timers[-1].start()

    def resume_after_timeout():
        deadline = time.monotonic() + 20
        while not source.failures["timeout"] and time.monotonic() < deadline:
            time.sleep(0.05)
        camera.send(signal.SIGCONT)

    def step(number, frame):
        if number == 20:
            camera.send(signal.SIGSTOP)
            later(0.0, resume_after_timeout)
        if number == 40:
            camera.kill()
            camera.size = "480x360"
            later(0.5, camera.start)

    frames = collect(source, 60, step=step)
    for timer in timers:
        timer.join()
    assert {(f.width, f.height) for f in frames} == {(320, 240), (480, 360)}
    assert [f.index for f in frames] == sorted({f.index for f in frames})
    assert len({f.stamp.epoch for f in frames}) == 3
    assert source.failures["timeout"] >= 1 and source.failures["connection lost"] >= 1
    assert "reconnected after" in caplog.text


def test_a_login_is_checked_at_the_start_and_never_logged(rtsp_camera, caplog):
    camera = rtsp_camera(user="ann:hunter2")
    right = camera.url.replace("//", "//ann:hunter2@")
    assert LiveSource(right, Band.VISIBLE, PATIENT).open().known
    for url in (camera.url, right.replace("hunter2", "hunter3")):
        with pytest.raises(LiveError, match=r"authentication failed.*check user and password") as caught:
            LiveSource(url, Band.VISIBLE, PATIENT).open()
        assert "hunter" not in str(caught.value)
    missing = LiveSource(right.replace("/cam", "/nope"), Band.VISIBLE, PATIENT)
    assert "not found" in missing.open().offline_reason, "a relay has no such stream until its publisher connects"
    assert "/nope: not found (" in missing.last_error and "404" in missing.last_error, missing.last_error
    assert "hunter" not in caplog.text


def test_a_changed_password_is_not_retried_rapidly(rtsp_camera):
    camera = rtsp_camera(user="ann:hunter2")
    source = LiveSource(camera.url, Band.VISIBLE, PATIENT)
    stop = threading.Event()

    def three_seconds_after_the_first() -> None:
        with suppress(AssertionError):
            wait_for(lambda: source.failures)
        time.sleep(3)
        stop.set()

    clock = threading.Thread(target=three_seconds_after_the_first)
    clock.start()
    assert [item.reason for item in source.frames(stop)] == ["authentication failed"]
    clock.join()
    assert source.failures == {"authentication failed": 1}, "one attempt in three seconds"
    assert "authentication failed (" in source.last_error and "401" in source.last_error


@pytest.mark.slow
def test_the_senders_clock_is_used_once_available(rtsp_camera):
    clock = CaptureClock()
    frames = collect(LiveSource(rtsp_camera().url, Band.VISIBLE), 150)
    ages = [(f.arrival_ns - clock.stamp(f).capture_ns) / 1e6 for f in frames]
    assert clock.report().grade == "sender"
    assert 0 <= sorted(ages[-20:])[0] < 500


@pytest.mark.skipif(not gst_rtsp_server(H265_ELEMENTS), reason="no H.265 encoder (gstreamer1.0-plugins-bad)")
def test_a_camera_that_sends_h265(rtsp_camera):
    source = LiveSource(rtsp_camera(codec="h265").url, Band.VISIBLE, PATIENT)
    info = source.open()
    assert (info.width, info.height, info.codec) == (320, 240, "hevc")
    frames = collect(source, 60)
    assert not source.failures and len({f.stamp.epoch for f in frames}) == 1
    steps = np.diff([f.capture_ns for f in frames])
    assert np.median(steps) == pytest.approx(S / 25, rel=0.05) and steps.min() > 0
    assert len({f.luma.pixels.tobytes() for f in frames}) > 50, "the ball moves in each"
