"""Rigs of cameras over HTTP: two panels of one stream, and a camera that is polled beside one that streams."""

import http.server
import logging
import threading

import cv2
import numpy as np
import pytest

from fusepipe.config.schema import Rig
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.rig.api import Pipeline


class Panels(http.server.BaseHTTPRequestHandler):
    """``/stream`` is MJPEG, ``/image`` one JPEG: a dark thermal panel above a bright visible one, both with noise."""

    def log_message(self, *_):
        """Quiet."""

    def picture(self):
        number = next(self.server.numbers)
        noise = np.random.default_rng(number).integers(-20, 21, (96, 64))
        panels = np.repeat([60, 180], 48)[:, None] + noise
        return cv2.imencode(".jpg", panels.astype(np.uint8))[1].tobytes()

    def do_GET(self):
        self.send_response(200)
        streams = self.path == "/stream"
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=B" if streams else "image/jpeg")
        self.end_headers()
        try:
            if not streams:
                self.wfile.write(self.picture())
            while streams and not self.server.stop.wait(0.04):
                body = self.picture()
                head = f"--B\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
                self.wfile.write(head.encode() + body + b"\r\n")
        except OSError:
            return


@pytest.fixture
def camera():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Panels)
    server.numbers, server.stop = iter(range(1 << 30)), threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="panels")
    thread.start()
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


class Keep:
    """A sink that keeps the frames."""

    label, outputs = "memory", ()

    def __init__(self):
        self.frames = []

    def check(self):
        """Accepts everything."""

    def write(self, frame):
        self.frames.append(frame)

    def close(self):
        return SinkReport(self.label, len(self.frames), 0)


def fused(infrared, visible, pairs):
    """The frames and the report of a rig that fuses by the mean."""
    sink = Keep()
    fusion = {"model": "mean"}
    rig = Rig.model_validate(
        {"name": "r", "infrared": infrared, "visible": visible, "fusion": fusion, "output": {"label": "off"}}
    )
    report = Pipeline(rig, sinks=[sink], max_pairs=pairs, duration_s=30).run()
    return sink.frames, report


def test_two_panels_of_one_live_stream(camera):
    url = f"{camera.url}/stream"
    frames, report = fused(
        {"url": url, "crop": [0, 0, 64, 48]}, {"url": url, "crop": [0, 48, 64, 48], "rotate": 180}, 25
    )
    assert {(f.width, f.height) for f in frames} == {(64, 48)} and report.pairs.get("fused", 0) >= 5
    assert not any("are the same" in text for text in report.warnings)
    levels = [float(f.planes[0].pixels.mean()) for f in frames if f.state == "fused"]
    assert np.allclose(levels, 120, atol=6), "the mean of 60 and 180"


def test_a_polled_camera_beside_a_stream(camera, caplog):
    caplog.set_level(logging.INFO, "fusepipe")
    polled = {"url": f"{camera.url}/image", "poll": "200ms", "crop": [0, 0, 64, 48]}
    frames, report = fused(polled, {"url": f"{camera.url}/stream", "crop": [0, 48, 64, 48]}, 60)
    assert len(frames) == 60 and set(report.pairs) <= {"fused", "held", "single"}
    assert report.pairs.get("fused", 0) >= 3, report.pairs
    assert not [r.message for r in caplog.records if "lost" in r.getMessage() or "reconnected" in r.getMessage()]
