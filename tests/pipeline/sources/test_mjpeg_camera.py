"""Motion JPEG cameras over HTTP: arrival times, and reconnections without leaks."""

import dataclasses
import http.server
import logging
import re
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from helpers.live_sources import QUICK, collect

from fusepipe.core.frames import Band, Disconnected
from fusepipe.pipeline.backoff import Backoff, BackoffPolicy
from fusepipe.pipeline.sources.live.camera import LiveSource
from fusepipe.pipeline.sources.live.failures import LiveError
from fusepipe.pipeline.sources.reframing import CropRectangle, Reframing


class MjpegHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(self.server.per_connection):
            size = self.server.sizes[number % len(self.server.sizes)]
            pixels = np.full((*size, 3), (number * 7) % 256, np.uint8)
            jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            try:
                self.wfile.write(head + jpeg + b"\r\n")
                self.wfile.flush()
            except OSError:
                return
            self.server.stop.wait(self.server.interval_s)


@pytest.fixture
def mjpeg():
    """An HTTP server at ``url`` that sends ``per_connection`` frames on each connection."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), MjpegHandler)
    server.per_connection, server.interval_s, server.stop = 1000, 0.04, threading.Event()
    server.sizes = [(48, 64)]  # (height, width) of the images in turn
    server.url = f"http://127.0.0.1:{server.server_port}/video"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="mjpeg")
    thread.start()
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_mjpeg_over_http_uses_arrival_times(mjpeg):
    source = LiveSource(mjpeg.url, Band.VISIBLE, QUICK)
    info = source.open()
    assert (info.width, info.height, info.codec) == (64, 48, "mjpeg")
    frames = collect(source, 30)
    assert {f.stamp.kind for f in frames} == {"arrival"}
    steps = np.diff([f.capture_ns for f in frames]) / 1e6
    assert 30 < np.median(steps) < 80


def test_a_camera_that_comes_late_is_connected_and_after_a_loss_reconnected(mjpeg, caplog):
    caplog.set_level(logging.INFO)
    mjpeg.per_connection = 0
    source = LiveSource(mjpeg.url, Band.VISIBLE, QUICK)
    comes = threading.Timer(0.5, setattr, (mjpeg, "per_connection", 20))
    comes.start()
    collect(source, 30)
    comes.join()
    said = [m[1] for text in caplog.messages if (m := re.search(r": (\w*connected) after \d", text))]
    assert said == ["connected", "reconnected"], caplog.text


def test_a_crop_of_a_live_camera_and_an_image_that_becomes_too_small(mjpeg):
    mjpeg.sizes = [(96, 64), (96, 64), (48, 64)]
    source = LiveSource(mjpeg.url, Band.VISIBLE, QUICK, reframing=Reframing(CropRectangle(0, 48, 64, 48), 90))
    info = source.open()
    assert (info.width, info.height) == (48, 64)
    stop = threading.Event()
    seen = []
    for item in source.frames(stop):
        seen.append("lost" if isinstance(item, Disconnected) else (item.width, item.height))
        if isinstance(item, Disconnected):
            assert item.reason == "image too small"
        if len(seen) == 6:
            stop.set()
    source.close()
    assert seen == [(48, 64), (48, 64), "lost"] * 2


def test_images_of_a_size_with_a_problem_count_as_not_connected(mjpeg):
    """A calibrated camera that changes its shape: its images would be registered wrongly."""
    mjpeg.sizes = [(64, 48), (64, 48), (48, 64)]
    source = LiveSource(mjpeg.url, Band.INFRARED, QUICK)
    source.require(lambda size: "" if size == (48, 64) else f"{size[0]}x{size[1]}")
    source.open()
    assert source.failures == {}, "it concerns frames only"
    stop = threading.Event()
    seen = []
    for item in source.frames(stop):
        seen.append(item.reason if isinstance(item, Disconnected) else (item.width, item.height))
        if len(seen) == 4:
            stop.set()
    source.close()
    assert seen == [(48, 64), (48, 64), "image of another shape", (48, 64)]
    assert source.failures == {"image of another shape": 1}


class RecordedWaits(threading.Event):
    """Notes how long it is to be waited for, and does not wait; set after ``count`` times."""

    def __init__(self, count):
        super().__init__()
        self.waits_s, self.count = [], count

    def wait(self, timeout=None):
        self.waits_s.append(timeout)
        if len(self.waits_s) == self.count:
            self.set()
        return self.is_set()


@pytest.mark.parametrize("misfit", ["shape", "crop", "format"])
def test_a_camera_whose_images_the_settings_do_not_allow_is_reported_once_and_retried_less_and_less(
    mjpeg, caplog, misfit
):
    """Only a person can change that."""
    options = dataclasses.replace(QUICK, yuyv_counts=misfit == "format")
    crop = Reframing(CropRectangle(0, 1, 64, 48) if misfit == "crop" else None)
    source = LiveSource(mjpeg.url, Band.VISIBLE, options, reframing=crop, chance=lambda: 0.0)
    source.require(lambda size: f"{size[0]}x{size[1]}; wanted another")
    stop = RecordedWaits(11)
    with caplog.at_level(logging.WARNING, "fusepipe"):
        reasons = {item.reason for item in source.frames(stop)}
    source.close()
    wanted = {"shape": "image of another shape", "crop": "image too small", "format": "image of another format"}
    assert reasons == {wanted[misfit]} == set(source.failures)
    assert stop.waits_s == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    (line,) = [record.getMessage() for record in caplog.records]
    assert wanted[misfit] in line and line.endswith("; retrying in 1.0 s, then less often")
    assert source.last_error.startswith(f"{mjpeg.url}: {wanted[misfit]} (")


def test_a_live_crop_that_does_not_fit_ends_the_start(mjpeg):
    source = LiveSource(mjpeg.url, Band.VISIBLE, QUICK, reframing=Reframing(CropRectangle(0, 1, 64, 48)))
    with pytest.raises(LiveError, match=r"image too small \(the crop of 64x48 at \(0, 1\) .* image of 64x48\)"):
        source.open()


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
def test_500_reconnections_leak_nothing(mjpeg, caplog):
    """Every connection delivers a few frames and ends; descriptors, threads and memory do not grow."""
    caplog.set_level(logging.ERROR, "fusepipe")  # pytest keeps log records, which would look like a leak
    mjpeg.per_connection, mjpeg.interval_s = 8, 0.0
    stop = threading.Event()
    backoff = Backoff(BackoffPolicy(first_ns=1, cap_ns=1))
    source = LiveSource(mjpeg.url, Band.VISIBLE, QUICK, backoff=backoff, chance=lambda: 0.0)
    process = psutil.Process()
    samples = []
    deadline = time.monotonic() + 100
    for _ in source.frames(stop):
        if source.connections % 50 == 0 and (not samples or samples[-1][0] != source.connections):
            held = process.memory_info().rss, open_descriptors(), threading.active_count()
            samples.append((source.connections, *held))
        if source.connections > 550 or time.monotonic() > deadline:
            stop.set()
    assert source.connections > 550, f"only {source.connections} connections in time"
    first, last = samples[1], samples[-1]
    assert last[2] - first[2] <= 3 and last[3] - first[3] <= 2, samples
    assert last[1] - first[1] < 8 << 20, f"{(last[1] - first[1]) >> 10} KiB more after {last[0] - first[0]} connections"
