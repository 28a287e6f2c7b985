"""FFmpeg options of live URLs, and the causes of cameras that cannot be opened."""

import functools
import socket
import threading
import time
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import pytest
from helpers.live_sources import QUICK, S
from helpers.made_clips import write_titled
from helpers.ports import free_port

from fusepipe.core.frames import Band
from fusepipe.core.redact import redact
from fusepipe.pipeline.sources.live.camera import LiveSource
from fusepipe.pipeline.sources.live.connection import LiveConnection
from fusepipe.pipeline.sources.live.connection_options import LiveOptions, open_arguments
from fusepipe.pipeline.sources.live.failures import Cause, LiveError, classify, has_protocol


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
def test_ffmpeg_options_of_live_urls(url, options, format, expected):
    made = open_arguments(url, options)
    assert (made.file, made.format) == (url, format)
    assert expected.items() <= made.options.items()
    if format is None:
        assert "file" not in made.options["protocol_whitelist"].split(","), "a playlist must not name local files"


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
def test_errors_are_classified(error, cause):
    assert classify(error, "rtsp://cam/x")[0] is cause


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
    connection.sendall(b"\x00\x01 not RTSP\r\n\r\n")


def silence(connection, stop):
    stop.wait(5)


def test_causes_of_cameras_that_cannot_be_opened():
    def cause(url, options=QUICK):
        with pytest.raises(LiveError) as caught:
            LiveConnection(url, redact(url), options, band=Band.VISIBLE)
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


def test_a_camera_that_is_offline_at_the_start_is_not_an_error_and_ends_promptly():
    source = LiveSource(f"rtsp://ann:hunter2@127.0.0.1:{free_port()}/x", Band.VISIBLE, QUICK)
    info = source.open()
    assert not info.known and info.offline_reason.startswith("connection refused")
    assert "hunter2" not in info.offline_reason + source.label
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    begun = time.monotonic()
    assert {(item.band, item.reason) for item in source.frames(stop)} == {(Band.VISIBLE, "connection refused")}
    assert time.monotonic() - begun < 3
    assert source.failures["connection refused"] >= 2


@pytest.mark.skipif(has_protocol("srt"), reason="this FFmpeg has srt://")
def test_a_scheme_that_this_ffmpeg_lacks_is_named():
    source = LiveSource("srt://ann:hunter2@127.0.0.1:9000", Band.VISIBLE, QUICK)
    with pytest.raises(LiveError, match=r"not supported \(this build of PyAV .* has no srt://; build PyAV") as caught:
        source.open()
    assert "hunter2" not in str(caught.value)


def test_the_schemes_of_every_build_are_found_without_a_connection():
    assert all(map(has_protocol, ("rtsp", "http", "udp"))) and not has_protocol("nosuch")


@contextmanager
def web_server(folder):
    """The URL of the files of a folder."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="web")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)


@pytest.fixture
def hls(tmp_path):
    """The URL of a playlist of one segment, on a web server."""
    with av.open(str(tmp_path / "live.m3u8"), "w", format="hls") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(50):
            container.mux(stream.encode(av.VideoFrame(160, 120, "yuv420p")))
        container.mux(stream.encode())
    with web_server(tmp_path) as url:
        yield f"{url}/live.m3u8"


def test_a_title_in_another_encoding_does_not_stop_a_camera(tmp_path):
    write_titled(tmp_path / "a.mkv", b"Stra\xdfe")
    with web_server(tmp_path) as url:
        assert LiveSource(f"{url}/a.mkv", Band.VISIBLE, QUICK).open().width == 48


def test_hls_is_refused(hls):
    """Whole segments would arrive at once; of 644 pairs with a camera 532 were single."""
    with pytest.raises(LiveError, match=r"HLS and DASH .* use the camera's rtsp:// URL"):
        LiveSource(hls, Band.VISIBLE, QUICK).open()


def test_a_playlist_that_is_not_available_yet_is_refused_too():
    with pytest.raises(LiveError, match="HLS and DASH"):
        LiveSource(f"http://127.0.0.1:{free_port()}/live.m3u8?token=hunter2", Band.VISIBLE, QUICK).open()
