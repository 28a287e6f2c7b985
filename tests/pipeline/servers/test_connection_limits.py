"""Hostile clients of the preview page and of the RTSP server: many connections, slow ones, garbage, huge requests."""

import contextlib
import json
import logging
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.ports import free_port
from helpers.preview_page import HOST, Page, fused_frame
from helpers.waiting import wait_for

from fusepipe.pipeline.encoding.live_encoder import LiveVideoOptions
from fusepipe.pipeline.servers.admission import Admission, ConnectionLimits, peer_group, reserved_descriptors
from fusepipe.pipeline.servers.log_limit import LogLimit
from fusepipe.pipeline.sinks.live.rtsp import RtspServerSink

HALF_A_REQUEST = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "


def connected(port, source=HOST):
    client = socket.create_connection((HOST, port), timeout=5, source_address=(source, 0))
    return client


def is_open(client):
    """Whether the server keeps the connection; reads and drops what has arrived."""
    client.setblocking(False)
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def answer(port, data, timeout_s=15.0):
    """Everything that the server sends until it closes the connection."""
    with socket.create_connection((HOST, port), timeout=timeout_s) as client:
        received = b""
        with contextlib.suppress(ConnectionError):
            client.sendall(data)
            while chunk := client.recv(1 << 16):
                received += chunk
        return received


@pytest.fixture
def clients():
    with contextlib.ExitStack() as stack:

        def make(port, count, data=b"", sources=(HOST,)):
            made = []
            for number in range(count):
                with contextlib.suppress(OSError):
                    client = stack.enter_context(connected(port, sources[number % len(sources)]))
                    client.sendall(data)
                    made.append(client)
            return made

        yield make


# -- rules


def test_connections_are_limited_in_total_and_by_peer():
    admission = Admission(ConnectionLimits(total=3, per_peer=2))
    for peer in ("10.0.0.1", "10.0.0.1", "10.0.0.2"):
        assert admission.refusal(peer, None) == ""
        admission.enter(peer)
    assert admission.refusal("10.0.0.3", None) == "limit of 3 connections reached"
    admission.leave("10.0.0.2")
    assert admission.refusal("10.0.0.1", None) == "limit of 2 connections per client reached"
    assert admission.refusal("10.0.0.3", 1) == ""
    assert "file descriptors" in admission.refusal("10.0.0.3", 0)


def test_a_proxy_of_this_machine_is_limited_in_total_only():
    admission = Admission(ConnectionLimits(total=3, per_peer=1))
    for peer in ("127.0.0.1", "127.0.0.1", "::1"):
        assert admission.refusal(peer, None) == ""
        admission.enter(peer)
    assert admission.refusal("127.0.0.1", None) == "limit of 3 connections reached"


def test_a_peer_is_an_address_or_an_ipv6_network():
    assert peer_group("10.0.0.1") == peer_group("::ffff:10.0.0.1") == "10.0.0.1"
    assert peer_group("2001:db8::1") == peer_group("2001:db8::ffff:1") != peer_group("2001:db8:0:1::1")
    assert peer_group("fe80::1%eth0") == peer_group("fe80::2%eth0")


def test_a_share_of_the_descriptors_is_reserved():
    assert [reserved_descriptors(limit) for limit in (64, 256, 512, 1024, 65536)] == [32, 64, 128, 256, 16384]


def test_lines_of_one_kind_are_logged_once_per_interval(caplog):
    now = [0.0]
    limited = LogLimit(logging.getLogger("fusepipe.test"), clock=lambda: now[0])
    for now[0] in (0.0, 0.1, 0.9, 1.0, 1.5, 5.0):
        limited.warning("refused", "refused %s", "x")
    limited.warning("other", "other")
    assert [record.getMessage() for record in caplog.records] == [
        "refused x",
        "refused x (and 2 more since the last such line)",
        "refused x (and 1 more since the last such line)",
        "other",
    ]


# -- the preview page


@pytest.mark.slow
def test_half_sent_and_idle_connections_are_closed_after_ten_seconds(clients):
    with Page() as page:
        half = clients(page.port, 60, HALF_A_REQUEST.encode())
        silent = clients(page.port, 20)
        idle = clients(page.port, 20, f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        time.sleep(1.0)
        assert all(map(is_open, (half[0], silent[0], idle[0])))
        end_s = time.monotonic() + 13
        while time.monotonic() < end_s:
            for client in half:  # a byte now and then does not extend the time
                with contextlib.suppress(OSError):
                    client.send(b"x")
            time.sleep(1.0)
        assert [sum(map(is_open, group)) for group in (half, silent, idle)] == [0, 0, 0]


def test_one_client_cannot_take_all_connections(clients, caplog):
    with Page() as page:
        many = clients(page.port, 200, HALF_A_REQUEST.encode(), ["127.0.0.2"])
        wait_for(lambda: sum(map(is_open, many)) == 128)
        clients(page.port, 200, HALF_A_REQUEST.encode(), [f"127.0.0.{n}" for n in range(3, 6)])
        with contextlib.suppress(ConnectionError), connected(page.port, "127.0.0.9") as refused:  # or while connecting
            wait_for(lambda: not is_open(refused), 5, lambda: "256 are open")
        for client in many:
            client.close()
        wait_for(lambda: page.get("/healthz")[0] == 200)
    refusals = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert refusals and len(refusals) < 20 and "limit of 128 connections per client reached" in refusals[0]


HOLD = """
import socket, sys
port, held = int(sys.argv[1]), []
for number in range(600):
    try:
        client = socket.create_connection(("127.0.0.1", port), 2, (f"127.0.0.{2 + number % 200}", 0))
        client.sendall(b"GET / HTTP/1.1\\r\\nX: ")
    except OSError:
        continue
    held.append(client)
print(len(held), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_clients_leave_descriptors_for_cameras_and_files(kind, tmp_path, caplog):
    """As with ``ulimit -n 200``: 600 connections, and the process can still open files and sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(Page() if kind == "http" else RtspServer()).port
        used = len(list(Path("/proc/self/fd").iterdir()))
        command = [sys.executable, "-c", HOLD, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as attacker:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, hard))
            try:
                assert int(attacker.stdout.readline()) > 20
                time.sleep(2.0)
                files = [stack.enter_context((tmp_path / f"{n}").open("w")) for n in range(40)]
                assert len(files) == 40
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                attacker.communicate("")
        wait_for(lambda: connected(port).close() is None)
    assert len(caplog.records) < 30 and not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" * 30,
        b"GET / HTTP/1.1\r\nHost: a\r\nX Y: secret-echo\r\n\r\n",
        b"secret-echo / HTTP/9.9\r\n\r\n",
        b"GET /" + b"secret-echo" * 18_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: secret-echo\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: secret-echo\r\n" * 20_000 + b"\r\n",
    ],
    ids=["tls", "header", "version", "line", "length", "headers"],
)
def test_garbage_is_answered_shortly_and_logged_once_a_second(data, caplog):
    caplog.set_level(logging.INFO)
    with Page() as page:
        begun_s = time.monotonic()
        for _ in range(30):
            received = answer(page.port, data)
            assert len(received) < 400 and b"secret-echo" not in received
        seconds = time.monotonic() - begun_s
        lines = [record for record in caplog.records if "invalid request" in record.getMessage()]
        assert 1 <= len(lines) <= seconds + 1
        assert all(len(record.getMessage()) < 120 and record.exc_info is None for record in caplog.records)
        assert "secret-echo" not in caplog.text and "Traceback" not in caplog.text
        assert page.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://evil.example/", 421),
        ("http://evil.example/healthz", 421),
        ("https://127.0.0.1@evil.example/healthz", 421),
        ("evil.example:443", 400),
        ("*", 400),
        ("http://{here}/healthz", 200),
        ("/healthz", 200),
        ("//evil.example/healthz", 404),
    ],
)
def test_the_page_is_no_proxy(target, status):
    with Page() as page:
        here = f"{HOST}:{page.port}"
        request = f"GET {target.format(here=here)} HTTP/1.1\r\nHost: {here}\r\nConnection: close\r\n\r\n"
        assert answer(page.port, request.encode()).split(b"\r\n")[0].split()[1] == str(status).encode()


def open_sockets():
    found = [link for entry in Path("/proc/self/fd").iterdir() if (link := _link(entry)).startswith("socket:")]
    return len(found)


def _link(entry):
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("path", ["/rigs/roof/live.mjpg?view=fused", "/rigs/roof/snapshot.png?view=side"])
def test_clients_that_do_not_read_are_disconnected(path, monkeypatch):
    monkeypatch.setattr("fusepipe.pipeline.servers.web.server.SEND_S", 0.5)
    monkeypatch.setattr("fusepipe.pipeline.servers.web.server.MIN_BYTES_PER_S", 1e8, raising=False)
    noise = fused_frame(shape=(1500, 2000), noise=True)
    with Page(frame=noise) as page:
        wait_for(lambda: page.get("/readyz")[0] == 200)
        before = open_sockets()
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                stuck = stack.enter_context(socket.socket())
                stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                stuck.connect((HOST, page.port))
                stuck.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{page.port}\r\n\r\n".encode())
            wait_for(lambda: open_sockets() > before + 5)
            wait_for(lambda: open_sockets() <= before + 5, 20)
            assert page.get("/healthz")[0] == 200
        clients = json.loads(page.get("/api/rigs")[1])["rigs"]["roof"]["clients"]
        assert clients == 0


def send_for(seconds, client):
    end_s, data = time.monotonic() + seconds, bytes(1 << 20)
    while time.monotonic() < end_s:
        client.sendall(data)


def test_a_huge_body_is_not_read(clients):
    with Page() as page:
        [sender] = clients(page.port, 1)
        head = f"GET / HTTP/1.1\r\nHost: {HOST}:{page.port}\r\nContent-Length: {10**12}\r\n\r\n"
        sender.sendall(head.encode())
        sender.settimeout(8.0)
        begun_s = time.monotonic()
        with pytest.raises(ConnectionError):
            send_for(8.0, sender)
        assert time.monotonic() - begun_s < 5


# -- the RTSP server


class RtspServer:
    """A served stream without frames."""

    def __enter__(self):
        self.port = free_port()
        self._sink = RtspServerSink(HOST, self.port, "street", LiveVideoOptions())
        self._sink.start()
        return self

    def __exit__(self, *_):
        self._sink.close()


def test_one_rtsp_client_cannot_take_all_connections(clients, caplog):
    caplog.set_level(logging.INFO)
    with RtspServer() as server:
        port = server.port
        many = clients(port, 100, sources=["127.0.0.2"])
        wait_for(lambda: sum(map(is_open, many)) == 64)
        begun_s = time.monotonic()
        for _ in range(30):
            assert b"secret-echo" not in answer(port, b"secret-echo\r\n\r\n")
        clients(port, 30, b"garbage\r\n\r\n", ["127.0.0.2"])
        lines = [record for record in caplog.records if "closed: " in record.getMessage()]
        assert len(lines) <= time.monotonic() - begun_s + 1
        assert "limit of 64 connections per client reached" in caplog.text
