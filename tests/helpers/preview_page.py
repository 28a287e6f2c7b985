"""A preview page of one rig that shows made frames."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from email.message import Message

import numpy as np
from helpers.ports import free_port

from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.pipeline.sinks.live.preview import WebPreviewSink
from fusepipe.pipeline.testing import MS, frame

HOST = "127.0.0.1"
RECORD = {
    "read": {"infrared": 12, "visible": 11},
    "pairs": {"fused": 10, "held": 1},
    "skipped": {'a "quoted"\nreason': 2},
    "dropped": {"sink-1": 3},
    "skew_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0},
    "latency_ms": {"p50": 25.0, "p95": 35.0, "p99": 45.0, "max": 55.0},
    "recent": {
        "latency_ms": {"p50": 20.0, "p95": 30.0, "p99": 40.0, "max": 50.0},
        "histograms": {"latency": {"buckets": [[0.02, 6], [0.05, 9], [None, 10]], "sum_s": 0.3}},
    },
    "depths": {"infrared": 1},
    "stage_cpu_s": {"fuse": 1.25},
    "seconds": 5.0,
    "sources": {"visible": {"width": 640, "height": 480, "codec": "h264", "fps": 25.0}},
    "engine": {"model": "stream", "backend": "openvino", "precision": "bf16"},
    "registration": "roof.calibration.yaml",
    "drift": {"state": "suspect", "offset_px": 1.8, "corrected_px": 0.0, "checks": 9, "blind": 2, "events": []},
    "warnings": ["<b>a warning</b>"],
}


def fused_frame(
    index: int = 0, *, infrared: bool = True, shape: tuple[int, int] = (48, 64), noise: bool = False
) -> FusedFrame:
    """Visible 50 everywhere, infrared 200, fused 120; or noise, whose images have the maximum size."""
    random = np.random.default_rng(1)

    def grey(value: int) -> np.ndarray:
        return random.integers(0, 256, shape, np.uint8) if noise else np.full(shape, value, np.uint8)

    capture_ns = index * 40 * MS
    visible = frame(Band.VISIBLE, index, capture_ns, pixels=grey(50))
    ir = frame(Band.INFRARED, index, capture_ns, pixels=grey(200)) if infrared else None
    luma = Plane(grey(200)) if infrared else None
    state = PairState.FUSED if infrared else PairState.SINGLE
    pair = FramePair(index, state, Band.VISIBLE, ir, visible, 2 * MS if infrared else None, luma=luma)
    planes = (Plane(grey(120)),)
    return FusedFrame(pair, planes, state, index, capture_ns, visible.pts, visible.time_base)


class Page:
    """A sink that serves, with a thread that writes about 20 frames per second."""

    def __init__(self, host: str = HOST, rig: str = "roof", *, frame: FusedFrame | None = None, **options) -> None:
        self._frame = frame
        self.port = options.pop("port", None) or free_port()
        self.sink = WebPreviewSink(host, self.port, rig, lambda: RECORD, **options)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shows")

    def __enter__(self):
        self.sink.start()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(10)
        self.report = self.sink.close()

    def _run(self):
        index = 0
        while not self._stop.wait(0.05):
            self.sink.write(self._frame or fused_frame(index))
            index += 1

    def get(self, path: str, **headers: str) -> tuple[int, bytes, Message]:
        request = urllib.request.Request(f"http://{HOST}:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers
