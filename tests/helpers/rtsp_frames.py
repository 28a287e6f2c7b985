"""A camera that writes to RTSP sinks, and a player."""

import threading
import time

import av
import numpy as np

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.pipeline.encoding.live_encoder import LiveVideoOptions
from fusepipe.pipeline.sinks.live.rtsp import RtspServerSink
from fusepipe.pipeline.testing import frame

HOST = "127.0.0.1"
RAMP = np.tile(np.linspace(20, 235, 320).astype(np.uint8), (240, 1))


def fused_frame(index: int, capture_ns: int, pixels: np.ndarray = RAMP) -> FusedFrame:
    visible = frame(Band.VISIBLE, index, capture_ns, pixels=pixels)
    pair = FramePair(index, PairState.FUSED, Band.VISIBLE, visible, visible, 0)
    planes = (Plane(pixels),)
    return FusedFrame(pair, planes, PairState.FUSED, index, capture_ns, visible.pts, visible.time_base)


class Camera:
    """Writes 25 frames per second to sinks in a thread, as the pipeline does, and records the longest write."""

    def __init__(self, *sinks, noise=False):
        self.sinks, self.pixels, self.longest_s, self.errors = sinks, RAMP, 0.0, []
        self._noise = np.random.default_rng(0) if noise else None  # about 1.5 MB a second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera")

    def __enter__(self):
        for sink in self.sinks:
            sink.check()
            sink.start()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.reports = [sink.close() for sink in self.sinks]
        assert self.errors == []

    def _run(self):
        index = 0
        try:
            while not self._stop.wait(0.04):
                pixels = np.roll(self.pixels, index, 1)
                if self._noise is not None:
                    pixels = self._noise.integers(0, 256, pixels.shape, dtype=np.uint8)
                for sink in self.sinks:
                    before_s = time.monotonic()
                    sink.write(fused_frame(index, time.monotonic_ns(), pixels))
                    if index:  # the first one opens the encoder
                        self.longest_s = max(self.longest_s, time.monotonic() - before_s)
                index += 1
        except SinkError as error:
            self.errors.append(error)


def sink_on(port: int, name: str = "roof", **options) -> RtspServerSink:
    return RtspServerSink(HOST, port, name, LiveVideoOptions(), fps=25, **options)


def decoded(url: str, count: int, transport: str = "tcp") -> list[av.VideoFrame]:
    """The first frames that PyAV decodes, of any certificate; every wait is bounded."""
    options = {"rtsp_transport": transport, "analyzeduration": "0", "probesize": "32", "tls_verify": "0"}
    with av.open(url, options=options, timeout=(20, 20)) as container:
        frames = []
        for each in container.decode(video=0):
            frames.append(each)
            if len(frames) >= count:
                break
        return frames
