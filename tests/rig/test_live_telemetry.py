"""Telemetry rows of a live camera: 16-bit counts in a Matroska stream over HTTP, read while it runs."""

import http.server
import threading
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from helpers.telemetry_rows import lepton_words, rows_of

from fusepipe.config.schema import Rig
from fusepipe.rig.api import Pipeline

Y, X = np.mgrid[:120, :160]
FPS = 20
CORRECTION = range(15, 25)  # frames of a connection


def counts(number):
    """The scene with noise and the rows of a Lepton below; a warm shutter during a correction."""
    correcting = number in CORRECTION
    scene = 8400 + 12 * X if correcting else 8000 + 3 * X + 2 * Y
    noise = np.random.default_rng(number).integers(0, 6, X.shape)
    words = lepton_words("in progress" if correcting else "complete", frame=number)
    return np.vstack([scene + noise, rows_of(words, 160)]).astype(np.uint16)


class Cameras(http.server.BaseHTTPRequestHandler):
    """``/infrared`` is FFV1 of 16 bits in Matroska, ``/visible`` MJPEG."""

    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        self.send_response(200)
        infrared = self.path == "/infrared"
        kind = "video/x-matroska" if infrared else "multipart/x-mixed-replace; boundary=B"
        self.send_header("Content-Type", kind)
        self.end_headers()
        try:
            self.infrared() if infrared else self.visible()
        except (OSError, av.error.PyAVCallbackError):  # the run has ended
            return

    def paced(self):
        number = 0
        while not self.server.stop.wait(1 / FPS):
            yield number
            number += 1

    def infrared(self):
        options = {"live": "1", "flush_packets": "1", "cluster_time_limit": "0"}
        with av.open(self.wfile, "w", format="matroska", options=options) as container:
            stream = container.add_stream("ffv1", rate=FPS, width=160, height=122, pix_fmt="gray16le")
            for number in self.paced():
                frame = av.VideoFrame.from_ndarray(counts(number), format="gray16le")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(frame))

    def visible(self):
        for number in self.paced():
            noise = np.random.default_rng(number).integers(100, 140, (120, 160), np.uint8)
            body = cv2.imencode(".jpg", noise)[1].tobytes()
            head = f"--B\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body + b"\r\n")


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cameras)
    made.stop = threading.Event()
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), name="cameras")
    thread.start()
    yield made
    made.stop.set()
    made.shutdown()
    made.server_close()
    thread.join(10)


@pytest.mark.serial
def test_rows_of_a_live_camera_are_read_and_its_correction_is_held(server):
    at = f"http://127.0.0.1:{server.server_port}"
    rig = Rig.model_validate(
        {
            "name": "r",
            "infrared": {"url": f"{at}/infrared", "telemetry": "lepton"},
            "visible": {"url": f"{at}/visible"},
            "fusion": {"model": "mean"},
            "sync": {"reference": "infrared"},
        }
    )
    shapes, states = set(), []
    corrected = threading.Event()

    def see(frame):
        infrared = frame.pair.infrared
        if infrared is not None:
            shapes.add(infrared.luma.pixels.shape)
            states.append((infrared.telemetry.ffc, str(frame.state)))
            if len({ffc for ffc, _ in states}) == 2 and infrared.telemetry.ffc == "complete":
                corrected.set()

    pipeline = Pipeline(rig, sinks=[], on_frame=see)
    pipeline.start()
    try:
        assert corrected.wait(60)
    finally:
        pipeline.interrupt()
        assert pipeline.wait(30)
    core = pipeline.report().sources["infrared"]["telemetry"]
    assert shapes == {(120, 160)} and (core["fpa_c"], core["ffc"]) == (34.0, "complete")
    assert core["ffcs"] >= 1 and 0 < core["ffc_frames"] < core["frames"]
    during = [state for ffc, state in states if ffc == "in progress"]
    assert during and set(during) <= {"held", "single"}, "a shutter is not fused"
    assert not [text for text in pipeline.report().warnings if "telemetry" in text]
