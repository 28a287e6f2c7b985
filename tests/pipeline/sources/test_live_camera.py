"""Live sources against real peers on the loopback: gst-rtsp-server, an HTTP server, a PyAV sender; and none."""

import http.server
import logging
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pytest
from helpers.waiting import wait_for

from fusepipe.core.frames import Band, Frame
from fusepipe.pipeline.backoff import CAMERA, CAMERA_LOGIN, Backoff, BackoffPolicy
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.sources.live.camera import LiveSource
from fusepipe.pipeline.sources.live.connection_options import LiveOptions, open_arguments
from fusepipe.pipeline.sources.live.errors import Cause, LiveError, classify

S = 1_000_000_000
SLOW = LiveOptions(open_timeout_ns=5 * S, stall_timeout_ns=4 * S)
QUICK = LiveOptions(open_timeout_ns=3 * S, stall_timeout_ns=1 * S)
PATIENT = LiveOptions(open_timeout_ns=30 * S, stall_timeout_ns=30 * S)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def collect(source, count, timeout_s=40, step=lambda n, frame: None):
    """``count`` frames, calling ``step`` with the number of each; fails when they do not come in time."""
    stop = threading.Event()
    watchdog = threading.Timer(timeout_s, stop.set)
    watchdog.start()
    frames = []
    try:
        for item in source.frames(stop):
            if isinstance(item, Frame):
                frames.append(item)
                step(len(frames), item)
                if len(frames) >= count:
                    stop.set()
    finally:
        watchdog.cancel()
        source.close()
    assert len(frames) == count, f"{len(frames)} of {count} frames in {timeout_s} s: {source.failures}"
    return frames


# -- pure


def test_back_off_doubles_up_to_its_cap_and_starts_anew_after_health():
    backoff = Backoff(BackoffPolicy(first_ns=S, cap_ns=10 * S, jitter=0.5, healthy_ns=30 * S))
    assert [backoff.wait_ns(0.0) // S for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert backoff.wait_ns(1.0) == 15 * S
    backoff.delivered(29 * S)
    assert backoff.wait_ns(0.0) == 10 * S, "not healthy for long enough"
    backoff.delivered(30 * S)
    assert backoff.wait_ns(0.0) == S
    assert Backoff(BackoffPolicy(1, S)).wait_ns(0.0) == 1
    many = Backoff(CAMERA)
    assert max(many.wait_ns(1.0) for _ in range(5000)) <= CAMERA.cap_ns * 1.25


def test_a_wrong_password_is_tried_rarely():
    backoff = Backoff(CAMERA)
    waits = [backoff.wait_ns(0.0, CAMERA_LOGIN) // S for _ in range(7)]
    assert waits == [30, 60, 120, 240, 480, 600, 600], "under an hour: 8 attempts"


def test_a_camera_that_was_off_before_is_not_waited_for_longer_after_a_wrong_password():
    """A camera that restarts refuses connections for a while, and then may refuse the password for a moment."""
    backoff = Backoff(CAMERA)
    assert [backoff.wait_ns(0.0) for _ in range(8)][-1] == CAMERA.cap_ns
    assert backoff.wait_ns(0.0, CAMERA_LOGIN) == 30 * S
    assert backoff.wait_ns(0.0) == CAMERA.cap_ns
    assert backoff.wait_ns(0.0, CAMERA_LOGIN) == 60 * S, "still the second wrong one"
    backoff.delivered(10 * S)
    assert (backoff.wait_ns(0.0), backoff.wait_ns(0.0, CAMERA_LOGIN)) == (S // 4, 30 * S)


@pytest.mark.parametrize(
    ("url", "options", "format", "expected"),
    [
        ("rtsp://cam/x", LiveOptions(), None, {"rtsp_transport": "tcp", "allowed_media_types": "video"}),
        ("RTSPS://cam/x", LiveOptions(transport="udp"), None, {"rtsp_transport": "udp", "max_delay": "100000"}),
        ("http://cam/x", LiveOptions(), None, {"probesize": "4096"}),
        ("udp://239.0.0.1:5000", LiveOptions(), None, {"fflags": "nobuffer"}),
        ("/dev/video0", LiveOptions(fps=29.97), "v4l2", {"framerate": "29.97", "timestamps": "default"}),
        (
            "/dev/video2",
            LiveOptions(options={"video_size": "640x512", "input_format": "gray16le", "timestamps": "abs"}),
            "v4l2",
            {"video_size": "640x512", "input_format": "gray16le", "timestamps": "abs"},
        ),
    ],
)
def test_what_ffmpeg_is_told(url, options, format, expected):
    made = open_arguments(url, options)
    assert (made.file, made.format) == (url, format)
    assert expected.items() <= made.options.items()
    if format is None:
        assert "file" not in made.options["protocol_whitelist"].split(","), "a playlist may not name local files"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (av.HTTPUnauthorizedError(0, "no"), Cause.AUTHENTICATION),
        (av.HTTPForbiddenError(0, "no"), Cause.AUTHENTICATION),
        (av.HTTPNotFoundError(0, "no"), Cause.NOT_FOUND),
        (av.FileNotFoundError(2, "No such file or directory"), Cause.NOT_FOUND),
        (av.HTTPServerError(0, "no"), Cause.BUSY),
        (OSError(16, "Device or resource busy"), Cause.BUSY),
        (av.PermissionError(13, "no"), Cause.PERMISSION),
        (av.InvalidDataError(0, "no"), Cause.CODEC),
        (av.ExitError(0, "no"), Cause.TIMEOUT),
        (av.ConnectionResetError(104, "no"), Cause.ENDED),
        (OSError(113, "No route to host"), Cause.UNREACHABLE),
        (OSError(19, "No such device"), Cause.NOT_FOUND),
        (av.UnknownError(0, "no"), Cause.OTHER),
    ],
)
def test_errors_are_sorted_by_cause(error, cause):
    assert classify(error, "rtsp://cam/x")[0] is cause


# -- what cannot be opened


@contextmanager
def listening(behaviour):
    """A TCP server on a free port whose connections are handed to ``behaviour``."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(5)
                behaviour(connection, stop)

    thread = threading.Thread(target=serve, name="peer")
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        stop.set()
        thread.join(10)
        server.close()


def garbage(connection, stop):
    connection.recv(1000)
    connection.sendall(b"\x00\x01 not what was asked for\r\n\r\n")


def silence(connection, stop):
    stop.wait(5)


def test_causes_of_what_does_not_open():
    def cause(url, options=QUICK):
        with pytest.raises(LiveError) as caught:
            LiveSource(url, Band.VISIBLE, options)._connect()
        assert "hunter2" not in str(caught.value) and "hunter2" not in repr(caught.value.__cause__)
        return caught.value.cause

    assert cause(f"rtsp://ann:hunter2@127.0.0.1:{free_port()}/x") is Cause.REFUSED
    assert cause("rtsp://ann:hunter2@no-such-host.invalid/x") is Cause.UNREACHABLE
    assert cause("/dev/video99") is Cause.NOT_FOUND
    with listening(garbage) as port:
        assert cause(f"rtsps://ann:hunter2@127.0.0.1:{port}/x") is Cause.TLS
    with listening(silence) as port:
        begun = time.monotonic()
        waits = LiveOptions(open_timeout_ns=S // 2, stall_timeout_ns=S)
        assert cause(f"rtsp://ann:hunter2@127.0.0.1:{port}/x", waits) is Cause.TIMEOUT
        assert time.monotonic() - begun < 5


def test_a_camera_that_is_away_at_the_start_is_no_error_and_ends_at_once():
    source = LiveSource(f"rtsp://ann:hunter2@127.0.0.1:{free_port()}/x", Band.VISIBLE, QUICK)
    info = source.open()
    assert not info.known and info.away.startswith("connection refused")
    assert "hunter2" not in info.away + source.label
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    begun = time.monotonic()
    assert list(source.frames(stop)) == []
    assert time.monotonic() - begun < 3
    assert source.failures["connection refused"] >= 2


# -- RTSP


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_an_rtsp_camera_hangs_dies_and_returns_with_another_size(rtsp_camera, transport, caplog):
    caplog.set_level(logging.INFO)
    camera = rtsp_camera()
    source = LiveSource(camera.url, Band.VISIBLE, LiveOptions(transport, None, 3 * S, S))
    info = source.open()
    assert (info.width, info.height, info.codec, info.grey) == (320, 240, "h264", False)
    timers = []

    def later(seconds, action):
        timers.append(threading.Timer(seconds, action))
        timers[-1].start()

    def go_on_when_missed():
        deadline = time.monotonic() + 20
        while not source.failures["timeout"] and time.monotonic() < deadline:
            time.sleep(0.05)
        camera.send(signal.SIGCONT)

    def step(number, frame):
        if number == 20:
            camera.send(signal.SIGSTOP)
            later(0.0, go_on_when_missed)
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
    assert "is back after" in caplog.text


def test_a_password_is_checked_at_the_start_and_never_shown(rtsp_camera, caplog):
    camera = rtsp_camera(user="ann:hunter2")
    right = camera.url.replace("//", "//ann:hunter2@")
    assert LiveSource(right, Band.VISIBLE, PATIENT).open().known
    for url in (camera.url, right.replace("hunter2", "hunter3")):
        with pytest.raises(LiveError, match=r"authentication failed.*check user and password") as caught:
            LiveSource(url, Band.VISIBLE, PATIENT).open()
        assert "hunter" not in str(caught.value)
    missing = LiveSource(right.replace("/cam", "/nope"), Band.VISIBLE, PATIENT)
    assert "not found" in missing.open().away, "a relay has no such stream until its publisher comes"
    assert "hunter" not in caplog.text


def test_no_hammering_when_the_password_is_changed_while_running(rtsp_camera):
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
    assert list(source.frames(stop)) == []
    clock.join()
    assert source.failures == {"authentication failed": 1}, "one attempt in three seconds"


@pytest.mark.slow
def test_the_senders_clock_is_taken_once_it_is_there(rtsp_camera):
    clock = CaptureClock()
    frames = collect(LiveSource(rtsp_camera().url, Band.VISIBLE), 150)
    ages = [(f.arrival_ns - clock.stamp(f).capture_ns) / 1e6 for f in frames]
    assert clock.report().grade == "sender"
    assert 0 <= sorted(ages[-20:])[0] < 500


# -- MJPEG over HTTP


class MjpegHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(self.server.per_connection):
            pixels = np.full((48, 64, 3), (number * 7) % 256, np.uint8)
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
    """An HTTP server that sends ``per_connection`` pictures a connection; ``url`` is where."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), MjpegHandler)
    server.per_connection, server.interval_s, server.stop = 1000, 0.04, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/video"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="mjpeg")
    thread.start()
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_mjpeg_over_http_goes_by_arrival(mjpeg):
    source = LiveSource(mjpeg.url, Band.VISIBLE, QUICK)
    info = source.open()
    assert (info.width, info.height, info.codec) == (64, 48, "mjpeg")
    frames = collect(source, 30)
    assert {f.stamp.kind for f in frames} == {"arrival"}
    steps = np.diff([f.capture_ns for f in frames]) / 1e6
    assert 30 < np.median(steps) < 80


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
def test_500_reconnections_leak_nothing(mjpeg, caplog):
    """Every connection gives a few pictures and ends; descriptors, threads and memory stay."""
    caplog.set_level(logging.ERROR, "fusepipe")  # pytest keeps what is logged, and would seem to leak
    mjpeg.per_connection, mjpeg.interval_s = 8, 0.0
    stop = threading.Event()
    source = LiveSource(mjpeg.url, Band.VISIBLE, QUICK, chance=lambda: 0.0)
    source._backoff = Backoff(BackoffPolicy(first_ns=1, cap_ns=1))
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


# -- any FFmpeg URL: MPEG-TS over UDP, with full control of the times


def send_mpegts(port, size, times, fps=25):
    """Sends pictures with the presentation times ``times`` (in 1/90000 s) at the pace of ``fps``."""
    options = {"mpegts_flags": "resend_headers", "pat_period": "0.2"}
    with av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", format="mpegts", options=options) as container:
        stream = container.add_stream("mpeg2video", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt, stream.time_base, stream.gop_size = "yuv420p", Fraction(1, 90_000), 5
        for number, pts in enumerate(times):
            pixels = np.random.default_rng(number).integers(0, 40, (size[1], size[0]), dtype=np.uint8)
            picture = av.VideoFrame.from_ndarray(pixels, "gray").reformat(format="yuv420p")
            picture.pts = number
            picture.time_base = Fraction(1, fps)
            for packet in stream.encode(picture):
                packet.pts = packet.dts = pts
                packet.time_base = Fraction(1, 90_000)
                container.mux(packet)
            time.sleep(1 / fps)


def test_a_udp_sender_is_absent_then_comes():
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


def test_presentation_times_that_jump_back_are_followed():
    """The sender's clock jumps back a minute in the middle of the stream."""
    port = free_port()
    times = [3600 * i + 9_000_000 - (5_400_000 if i >= 75 else 0) for i in range(150)]

    def send():  # a multiplexer takes no time that goes back: the second half is another's
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
