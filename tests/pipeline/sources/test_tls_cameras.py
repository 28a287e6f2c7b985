"""Cameras behind TLS: whether their certificate is verified depends on their options, and not on FFmpeg's version."""

import contextlib
import functools
import ssl
import threading
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers.certificates import HOST, make_certificate
from helpers.made_clips import write_titled
from helpers.ports import free_port
from helpers.rtsp_frames import Camera, sink_on

from fusepipe.core.frames import Band
from fusepipe.core.units import S
from fusepipe.pipeline.sources.live.camera import LiveSource
from fusepipe.pipeline.sources.live.connection_options import LiveOptions
from fusepipe.pipeline.sources.live.failures import Cause, LiveError, classify


@pytest.fixture
def files(tmp_path):
    return make_certificate(tmp_path)


class Redirect(BaseHTTPRequestHandler):
    """Sends every request to ``target``."""

    def __init__(self, target, *given):
        self.target = target
        super().__init__(*given)

    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", self.target)
        self.end_headers()

    def log_message(self, *_):
        """Requests are not logged."""


@contextlib.contextmanager
def served(handler, files=None):
    """The port of a web server, which uses TLS with ``files``."""
    with ThreadingHTTPServer((HOST, 0), handler) as server:
        if files is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.certificate, files.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, name="web")
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(10)


@contextlib.contextmanager
def camera(kind, files, folder):
    """The URL of a camera with a self-signed certificate."""
    if kind == "rtsps":
        port = free_port()
        with Camera(sink_on(port, tls=files)):
            yield f"rtsps://{HOST}:{port}/roof"
        return
    write_titled(folder / "a.mkv", b"a camera")
    with served(functools.partial(SimpleHTTPRequestHandler, directory=folder), files) as port:
        secured = f"https://{HOST}:{port}/a.mkv"
        if kind == "https":
            yield secured
            return
        with served(functools.partial(Redirect, secured)) as plain:
            yield f"http://{HOST}:{plain}/a.mkv"


def opened(url, **options):
    """What a camera with these FFmpeg options says of itself."""
    source = LiveSource(url, Band.VISIBLE, LiveOptions(open_timeout_ns=20 * S, options=options))
    try:
        return source.open()
    finally:
        source.close()


@pytest.mark.parametrize("kind", ["rtsps", "https", "redirect"])
def test_a_certificate_is_verified_where_the_options_say_so(kind, files, tmp_path):
    stranger = make_certificate(tmp_path, "stranger").certificate
    with camera(kind, files, tmp_path) as url:
        assert opened(url).known, "a self-signed certificate is accepted by default"
        assert opened(url, tls_verify="1", ca_file=str(files.certificate)).known
        refused = {"tls_verify": "1", "ca_file": str(stranger)}
        if kind == "redirect":  # the cause of what happens there is not known
            assert not opened(url, **refused).known
            return
        with pytest.raises(LiveError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            opened(url, **refused)
        assert caught.value.cause is Cause.TLS


def test_a_self_signed_certificate_is_not_named_as_the_cause_unless_it_was_verified(files):
    lost = OSError(5, "Input/output error")
    with served(SimpleHTTPRequestHandler, files) as port:
        url = f"https://{HOST}:{port}/"
        assert classify(lost, url, {"tls_verify": "0"}) == (Cause.OTHER, "Input/output error")
        assert classify(lost, url, {"tls_verify": "1"}) == (Cause.TLS, "CERTIFICATE_VERIFY_FAILED")
        assert classify(lost, url, {"tls_verify": "1", "ca_file": str(files.certificate)})[0] is Cause.OTHER
