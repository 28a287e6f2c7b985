"""Cameras over HTTP that give one image a request, or MJPEG without a first boundary, against a real HTTP server."""

import base64
import hashlib
import http.server
import itertools
import threading
import time

import cv2
import numpy as np
import pytest
from helpers.live_sources import QUICK, collect

from fusepipe.config.schema import SourceConfig
from fusepipe.core.frames import Band, Disconnected, Frame
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.sources.live.connection import LiveConnection
from fusepipe.pipeline.sources.live.failures import LiveError
from fusepipe.rig.factories.sources import make_source

REALM = 'realm="camera", nonce="a1b2c3", qop="auth"'


def picture(number, suffix=".jpg"):
    """An image of some kB whose mean level is 20 times its number, which is up to 10."""
    noise = np.random.default_rng(number).integers(-15, 16, (48, 64, 1))
    pixels = np.clip(20 + 20 * number + noise, 0, 255).astype(np.uint8).repeat(3, 2)
    return cv2.imencode(suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 99])[1].tobytes()


class Camera(http.server.BaseHTTPRequestHandler):
    """The server's ``answer`` sends the response number n; ``login`` asks for Basic or Digest authentication."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        if self.server.login and not self.authorised():
            self.send_response(401)
            self.send_header("WWW-Authenticate", f"{self.server.login} {REALM}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        number = next(self.server.numbers)
        self.server.arrivals.append(time.monotonic())
        self.close_connection = True
        try:
            self.server.answer(self, number)
        except OSError:
            return

    def authorised(self):
        kind, _, rest = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            return base64.b64decode(rest) == b"user:secret-word"
        parts = dict(p.strip().split("=", 1) for p in rest.split(",")) if kind == "Digest" else {}
        given = {key: value.strip('"') for key, value in parts.items()}
        hashed = [hashlib.md5(text).hexdigest() for text in (b"user:camera:secret-word", f"GET:{self.path}".encode())]
        middle = ":".join(given.get(key, "") for key in ("nonce", "nc", "cnonce", "qop"))
        return given.get("response") == hashlib.md5(f"{hashed[0]}:{middle}:{hashed[1]}".encode()).hexdigest()

    def send(self, body, kind="image/jpeg", length=None):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def camera():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.login, server.numbers, server.arrivals, server.stop = "", itertools.count(), [], threading.Event()
    server.answer = lambda request, number: request.send(picture(number))
    server.base = f"http://127.0.0.1:{server.server_port}/"
    server.url = f"{server.base}snapshot?name=%20d"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="camera")
    thread.start()
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


def polled(url, poll="100ms", **keys):
    """The source of a camera that is polled."""
    config = SourceConfig.model_validate(
        {"url": url, "poll": poll, "open_timeout": "2s", "stall_timeout": "1s", **keys}
    )
    return make_source(config, Band.VISIBLE, "rig")


def items(source, count):
    """The first ``count`` things that a source yields."""
    stop, found = threading.Event(), []
    for item in source.frames(stop):
        found.append(item)
        if len(found) == count:
            stop.set()
    source.close()
    return found


def levels(frames):
    return [round(float(frame.luma.pixels.mean() - 20) / 20) for frame in frames]


@pytest.mark.parametrize(
    ("suffix", "path"),
    [(".jpg", "snapshot"), (".jpg", "a.jpg"), (".jpg", "a.JPEG?n=1"), (".png", "s"), (".png", "a.png")],
)
def test_a_snapshot_is_fetched_again_at_each_interval(camera, suffix, path):
    camera.answer = lambda request, number: request.send(picture(number, suffix), "image/x")
    source = polled(camera.base + path)
    info = source.open()
    assert (info.width, info.height, info.fps) == (64, 48, 10)
    found = items(source, 6)
    assert levels(found) == [1, 2, 3, 4, 5, 6] and [frame.index for frame in found] == list(range(6))
    assert all(isinstance(frame, Frame) and frame.stamp.kind == "arrival" for frame in found)
    assert all(frame.capture_ns == frame.arrival_ns for frame in found)
    assert source.connections == 2 and not source.failures, "open and one series"
    steps = np.diff(camera.arrivals[-6:])
    assert steps.min() > 0.05 and np.median(steps) == pytest.approx(0.1, abs=0.05)


def test_the_same_image_again_is_a_frame(camera):
    camera.answer = lambda request, number: request.send(picture(3))
    assert levels(items(polled(camera.url, "50ms"), 8)) == [3] * 8
    given = {"url": "http://h/a.jpg", "poll": "1s"}
    assert not SourceConfig.model_validate(given).detects_freezes
    assert SourceConfig.model_validate({**given, "freeze_detection": "on"}).detects_freezes


@pytest.mark.parametrize("login", ["Basic", "Digest"])
def test_passwords_of_the_url_are_sent_and_hidden(camera, login):
    camera.login = login
    url = camera.url.replace("http://", "http://user:secret-word@")
    assert levels(items(polled(url), 3)) == [0, 1, 2]
    wrong = polled(url.replace("secret-word", "wrong-word"))
    with pytest.raises(LiveError, match="authentication failed") as failed:
        wrong.open()
    assert "wrong-word" not in str(failed.value)


def half(request, number):
    body = picture(number)
    request.send(body[: len(body) // 2], length=len(body))


def silent(request, number):
    request.send(b"\xff\xd8", length=1000)
    request.server.stop.wait(5)


def endless(request, number):
    request.send(b"\xff\xd8" + bytes(65536), length=1 << 40)
    while not request.server.stop.is_set():
        request.wfile.write(bytes(1 << 20))


def page(request, number):
    request.send(b"<html>" + b"no image " * 999, "text/html")


@pytest.mark.parametrize("answer", [half, silent, endless, page])
def test_a_response_without_an_image_ends_in_time_and_the_next_one_is_fetched(camera, answer):
    good = camera.answer
    camera.answer = lambda request, number: (answer if number == 1 else good)(request, number)
    began = time.monotonic()
    first, failed, after = items(polled(camera.url), 3)
    assert time.monotonic() - began < 30, "a response may take two seconds; some of these never end"
    assert isinstance(failed, Disconnected)
    assert levels([first, after]) == [0, 2]


def test_a_slow_camera_is_asked_less_often(camera):
    def slow(request, number):
        time.sleep(0.25)
        request.send(picture(number))

    camera.answer = slow
    found = items(polled(camera.url), 4)
    assert levels(found) == [0, 1, 2, 3]
    assert np.diff(camera.arrivals).min() > 0.24


@pytest.mark.parametrize("path", ["snapshot", "snapshot.jpg"])
def test_one_image_without_poll_names_the_key(camera, path):
    connection = LiveConnection(camera.base + path, "camera", QUICK, band=Band.VISIBLE)
    frames = connection.frames(threading.Event())
    assert isinstance(next(frames), Frame)
    with pytest.raises(LiveError, match=r"connection lost \(the URL gives one image at a time: set poll"):
        next(frames)
    connection.close()


def without_first_boundary(request, number):
    """As ESP32 cameras send it: the boundary follows each image."""
    request.send_response(200)
    request.send_header("Content-Type", "multipart/x-mixed-replace;boundary=B")
    request.end_headers()
    begun = request.server.begun = []
    for index in range(100):
        body = picture(index)
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        begun.append(time.monotonic_ns())
        request.wfile.write(head + body + b"\r\n--B\r\n")
        if request.server.stop.wait(0.1):
            return


@pytest.mark.parametrize("named", [{}, {"format": "mjpeg"}])
def test_mjpeg_without_a_first_boundary(camera, named):
    camera.answer = without_first_boundary
    config = SourceConfig.model_validate({"url": camera.url, "open_timeout": "3s", "stall_timeout": "1s", **named})
    source = make_source(config, Band.VISIBLE, "rig")
    info = source.open()
    assert (info.width, info.height, info.codec) == (64, 48, "mjpeg")
    opened = len(camera.arrivals)
    assert opened == (1 if named else 2), "the format that works is found once"
    frames = collect(source, 9)
    assert levels(frames) == list(range(9)) and len(camera.arrivals) == opened + 1
    # an image ends with the beginning of the next one, but was captured when its own began
    clock = CaptureClock()
    late_ms = [(clock.stamp(f).capture_ns - b) / 1e6 for f, b in zip(frames, camera.begun, strict=False)][1:]
    assert np.median(late_ms) < 50 and np.median(np.diff([f.capture_ns for f in frames])) / 1e6 > 80


@pytest.mark.parametrize("path", ["video", "video.jpg"])
@pytest.mark.parametrize("poll", [{}, {"poll": "1s"}])
def test_a_web_page_is_not_taken_for_images(camera, path, poll):
    camera.answer = page
    config = SourceConfig.model_validate(
        {"url": camera.base + path, "open_timeout": "2s", "stall_timeout": "1s", **poll}
    )
    with pytest.raises(LiveError, match="no usable video"):
        make_source(config, Band.VISIBLE, "rig").open()


def test_an_unknown_format_is_named(camera):
    source = make_source(SourceConfig.model_validate({"url": camera.url, "format": "mjpg"}), Band.VISIBLE, "rig")
    with pytest.raises(LiveError, match=r"no usable video.*mjpg"):
        source.open()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"url": "rtsp://h/a", "poll": "1s"}, "poll is for http:// cameras"),
        ({"url": "http://h/a", "poll": "1ms"}, "from 50ms to 1h"),
        ({"url": "/dev/video0", "format": "mjpeg"}, "input_format: mjpeg"),
        ({"url": "a.mkv", "format": "mjpeg"}, "format is for live cameras"),
    ],
)
def test_settings_that_do_not_go_together(keys, message):
    with pytest.raises(ValueError, match=message):
        SourceConfig.model_validate(keys)


def test_requests_end_with_stop_during_the_pause(camera):
    source = polled(camera.url, "1h")
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    began = time.monotonic()
    assert len(list(source.frames(stop))) == 1 and time.monotonic() - began < 3
    source.close()
