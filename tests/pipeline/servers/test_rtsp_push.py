"""Pushing to an RTSP server, and how live outputs encode and keep time."""

import signal
import subprocess
import threading
import time
from dataclasses import replace

import av
import numpy as np
import pytest
from helpers.ports import free_port
from helpers.rtsp_frames import HOST, RAMP, Camera, fused_frame
from helpers.waiting import wait_for
from peers.cameras import GI_PYTHON, MISSING, RECORDER_ELEMENTS, RTSP_RECORDER, gst_rtsp_server

from fusepipe.core.errors import SinkError
from fusepipe.pipeline.backoff import PUSH, S
from fusepipe.pipeline.encoding.h264 import nal_type
from fusepipe.pipeline.encoding.live_encoder import LiveEncoder, LiveVideoOptions
from fusepipe.pipeline.servers.rtsp.digest import Credentials
from fusepipe.pipeline.sinks.live.playout import PlayoutClock
from fusepipe.pipeline.sinks.live.rtsp_push import RtspPushSink
from fusepipe.pipeline.testing import MS


@pytest.fixture
def recorder():
    """gst-rtsp-server with RECORD, run by the system's Python; yields a function that starts one on a port."""
    if not gst_rtsp_server(RECORDER_ELEMENTS):
        pytest.skip(MISSING)
    started, readers = [], []

    def start(port, *login):
        process = subprocess.Popen(
            [str(GI_PYTHON), str(RTSP_RECORDER), str(port), *login], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        started.append(process)
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), name="lines")
        reader.start()
        readers.append(reader)
        wait_for(lambda: "listening\n" in lines, 30)
        return process, lines

    yield start
    for process, reader in zip(started, readers, strict=True):
        process.kill()
        process.wait(10)
        reader.join(10)
        process.stdout.close()


def buffers(lines):
    return max([int(line.split()[1]) for line in lines if line.startswith("buffers ")], default=0)


@pytest.mark.slow
def test_a_push_arrives_survives_a_restart_and_never_blocks(recorder, monkeypatch, caplog):
    monkeypatch.setattr("fusepipe.pipeline.servers.rtsp.push.PUSH", replace(PUSH, cap_ns=S))
    port = free_port()
    sink = RtspPushSink(HOST, port, "roof", LiveVideoOptions(), fps=25)
    with Camera(sink) as camera:  # the target does not listen yet
        wait_for(lambda: "refused" in sink.failure.lower() or "connect" in sink.failure.lower())
        process, lines = recorder(port)
        wait_for(lambda: buffers(lines) > 20, 30)
        process.kill()
        process.wait(10)
        _, lines = recorder(port)
        wait_for(lambda: buffers(lines) > 20, 30)
    assert camera.longest_s < 2.0
    assert camera.reports[0].note.startswith("2 connections")


@pytest.mark.slow
def test_a_push_to_a_stalled_target_never_blocks_and_reconnects(recorder, monkeypatch):
    monkeypatch.setattr("fusepipe.pipeline.servers.rtsp.push.STALL_TIMEOUT_NS", 1_000_000_000)
    monkeypatch.setattr("fusepipe.pipeline.servers.rtsp.push.RESPONSE_S", 1.0)
    port = free_port()
    sink = RtspPushSink(HOST, port, "roof", LiveVideoOptions(), fps=25)
    with Camera(sink, noise=True) as camera:
        process, lines = recorder(port)
        wait_for(lambda: buffers(lines) > 10, 30)
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: sink.dropped_units > 0 and not sink.connected, 40)
        process.send_signal(signal.SIGCONT)
        before = buffers(lines)
        wait_for(lambda: buffers(lines) > before + 10, 40)
        process.send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 15, "closing is bounded though the target is frozen"
    assert camera.longest_s < 2.0


@pytest.mark.slow
def test_a_push_with_a_password(recorder):
    port = free_port()
    recorder(port, "ann", "secret")
    right = RtspPushSink(HOST, port, "roof", LiveVideoOptions(), credentials=Credentials("ann", "secret"), fps=25)
    wrong = RtspPushSink(HOST, port, "roof", LiveVideoOptions(), credentials=Credentials("ann", "guess"), fps=25)
    with Camera(right, wrong):
        wait_for(lambda: right.connected)
        wait_for(lambda: "user or password wrong" in wrong.failure)
    assert wrong.connections == 0


def test_frames_are_encoded_without_delay_and_key_frames_on_request():
    encoder = LiveEncoder(LiveVideoOptions(key_frame_ns=400 * MS), fps=25)
    units = [encoder.encode(fused_frame(i, i * 40 * MS, np.roll(RAMP, i, 1)), key=i == 5) for i in range(20)]
    assert [i for i, unit in enumerate(units) if unit.key] == [0, 5, 15]
    for unit in units:
        kinds = [nal_type(nal) for nal in unit.nals]
        assert (kinds[:2] == [7, 8] and 5 in kinds) if unit.key else kinds == [1]
    context = av.CodecContext.create("h264", "r")
    shown = [f for unit in units for f in context.decode(av.Packet(unit.annex_b()))] + context.decode(None)
    assert len(shown) == 20


def test_nvenc_is_used_where_available_else_other_hardware_or_x264():
    encoder = LiveEncoder(LiveVideoOptions(), fps=25)
    assert encoder.encode(fused_frame(0, 0)).key
    assert encoder.name in ("libx264", "h264_nvenc", "h264_qsv")
    forced = LiveEncoder(LiveVideoOptions(encoder="nvenc"), fps=25)
    if encoder.name == "h264_nvenc":
        assert forced.encode(fused_frame(0, 0)).key
    else:
        with pytest.raises(SinkError, match=r"nvenc is not available here \(.+\); use encoder: auto or x264"):
            forced.encode(fused_frame(0, 0))


def test_the_bit_rate_is_kept():
    rng = np.random.default_rng(1)
    noise = [fused_frame(i, i * 40 * MS, rng.integers(0, 256, (240, 320), dtype=np.uint8)) for i in range(75)]
    bound = LiveEncoder(LiveVideoOptions(bitrate_bps=500_000), fps=25)
    free = LiveEncoder(LiveVideoOptions(), fps=25)
    bits = {e: sum(e.encode(each).size_bytes for each in noise) * 8 / 3 for e in (bound, free)}
    assert bits[bound] < 1.5 * 500_000 < bits[free] / 3, "per second, over three seconds of noise"


def test_a_recording_is_paced_to_its_own_speed():
    pace = PlayoutClock(live=False)
    assert pace.wait_ns(5000 * MS, 100 * MS) == 0
    assert pace.wait_ns(5040 * MS, 110 * MS) == 30 * MS
    assert pace.unix_ns(5040 * MS, 140 * MS, 1_000_000 * MS) == 1_000_000 * MS
    assert pace.wait_ns(5080 * MS, 300 * MS) == 0, "late"
    assert pace.wait_ns(9000 * MS, 320 * MS) == 0, "a gap is skipped"
    assert pace.wait_ns(9040 * MS, 330 * MS) == 30 * MS
    live = PlayoutClock(live=True)
    assert live.wait_ns(0, 10**9) == 0 and live.unix_ns(4 * MS, 10 * MS, 100 * MS) == 94 * MS
