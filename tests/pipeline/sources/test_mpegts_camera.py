"""MPEG-TS over UDP: a sender with full control of the timestamps."""

import threading
import time
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from helpers.live_sources import SLOW, S, collect
from helpers.ports import free_port

from fusepipe.core.frames import Band
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.sources.live.camera import LiveSource
from fusepipe.pipeline.sources.live.connection_options import LiveOptions


def send_mpegts(port, size, times, fps=25):
    """Sends frames with the presentation timestamps ``times`` (in 1/90000 s) at ``fps``."""
    options = {"mpegts_flags": "resend_headers", "pat_period": "0.2"}
    with av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", format="mpegts", options=options) as container:
        stream = container.add_stream("mpeg2video", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt, stream.time_base, stream.gop_size = "yuv420p", Fraction(1, 90_000), 5
        for number, pts in enumerate(times):
            pixels = np.random.default_rng(number).integers(0, 40, (size[1], size[0]), dtype=np.uint8)
            av_frame = av.VideoFrame.from_ndarray(pixels, "gray").reformat(format="yuv420p")
            av_frame.pts = number
            av_frame.time_base = Fraction(1, fps)
            for packet in stream.encode(av_frame):
                packet.pts = packet.dts = pts
                packet.time_base = Fraction(1, 90_000)
                container.mux(packet)
            time.sleep(1 / fps)


def test_a_udp_sender_is_absent_then_starts():
    port = free_port()
    times = [3600 * i + 900_000 for i in range(200)]
    sender = threading.Timer(0.7, send_mpegts, (port, (160, 120), times))
    absent = LiveOptions(open_timeout_ns=S // 2, stall_timeout_ns=S // 2)
    assert not LiveSource(f"udp://127.0.0.1:{port}", Band.INFRARED, absent).open().known
    sender.start()
    source = LiveSource(f"udp://127.0.0.1:{port}", Band.INFRARED, SLOW)
    frames = collect(source, 30, timeout_s=60)
    sender.join()
    assert (frames[0].width, frames[0].height) == (160, 120)
    assert {b.pts - a.pts for a, b in pairwise(frames)} >= {3600}


def test_timestamps_that_jump_back_are_followed():
    """The sender's clock jumps back a minute in the middle of the stream."""
    port = free_port()
    times = [3600 * i + 9_000_000 - (5_400_000 if i >= 75 else 0) for i in range(150)]

    def send():  # a muxer rejects timestamps that step back: use a second one
        send_mpegts(port, (160, 120), times[:75])
        send_mpegts(port, (160, 120), times[75:])

    sender = threading.Timer(0.1, send)
    sender.start()
    frames = collect(LiveSource(f"udp://127.0.0.1:{port}", Band.INFRARED, SLOW), 100, timeout_s=60)
    sender.join()
    clock = CaptureClock()
    outs = [clock.stamp(f).capture_ns for f in frames]
    assert min(b.capture_ns - a.capture_ns for a, b in pairwise(frames)) < -50 * S
    assert outs == sorted(set(outs)) and clock.report().resets == 1
