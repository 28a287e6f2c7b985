"""Publishes a stream to another RTSP server: ANNOUNCE, SETUP, RECORD (RFC 2326, 10.3 and 10.11).

Over TCP, interleaved, in a thread of its own. While the target refuses, stalls or is unreachable, frames are dropped
and counted, and the connection is retried with back-off. FFmpeg's RTSP muxer is not used: its write blocks forever when
the peer stalls, whatever timeout it is given.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from fusepipe.pipeline.backoff import PUSH, PUSH_LOGIN, Backoff
from fusepipe.pipeline.encoding.h264 import AccessUnit, payloads
from fusepipe.pipeline.servers.addresses import url_host
from fusepipe.pipeline.servers.delivery import (
    MAX_PENDING_UNITS,
    MIN_KEY_INTERVAL_NS,
    Delivery,
    DeliveryDecision,
)
from fusepipe.pipeline.servers.loop_thread import LoopThread
from fusepipe.pipeline.servers.rtsp.digest import Credentials, answer
from fusepipe.pipeline.servers.rtsp.message import Parser, ProtocolError, Request, Response, interleaved
from fusepipe.pipeline.servers.rtsp.rtp import PAYLOAD_BYTES, Sender
from fusepipe.pipeline.servers.rtsp.sdp import TRACK, Description, write_sdp
from fusepipe.pipeline.servers.rtsp.tcp import configure_socket

log = logging.getLogger(__name__)

CONNECT_S = 5.0
RESPONSE_S = 5.0
KEEP_ALIVE_S = 25.0
STALL_TIMEOUT_NS = 10_000_000_000
TEARDOWN_S = 1.0


class PushError(Exception):
    """The target refused; ``status`` is its RTSP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class PushTarget:
    """Where to publish; ``path`` has no leading slash."""

    host: str
    port: int
    path: str
    credentials: Credentials | None = None

    @property
    def url(self) -> str:
        return f"rtsp://{url_host(self.host)}:{self.port}/{self.path}"


class RtspPublisher:
    """Publishes access units to one target; see :class:`~fusepipe.pipeline.sinks.live.encoded_stream.Outlet`."""

    def __init__(self, target: PushTarget) -> None:
        self._target = target
        self._thread = LoopThread(f"push-{target.host}")
        self._lock = threading.Lock()
        self._pending = 0
        self._description: Description | None = None
        self._described = asyncio.Event()
        self._connection: _PushConnection | None = None
        self._last_key_ns = 0
        self._started = False
        self.connections = 0
        self.dropped_units = 0
        self.failure = ""  # why it is not connected; empty while it is connected

    # -- pipeline thread

    def start(self) -> None:
        if not self._started:
            self._started = True
            self._thread.start()
            self._thread.post(self._begin)

    @property
    def described(self) -> bool:
        return self._description is not None

    @property
    def watched(self) -> bool:
        return self._connection is not None

    def wants_key(self, now_ns: int) -> bool:
        connection = self._connection
        if connection is None or now_ns - self._last_key_ns <= MIN_KEY_INTERVAL_NS:
            return False
        return connection.delivery.wants_key

    def publish(self, unit: AccessUnit, description: Description, unix_ns: int) -> None:
        """Sends one unit, or drops it; never blocks."""
        self._description = description
        with self._lock:
            if self._pending >= MAX_PENDING_UNITS:
                self.dropped_units += 1
                return
            self._pending += 1
        self._thread.post(self._deliver, unit, unix_ns)

    def stop(self) -> None:
        """Sends TEARDOWN if connected; returns within a few seconds whatever the peer does."""
        if not self._started:
            return
        try:
            self._thread.call(self._tear_down(), 2 * TEARDOWN_S)
        except (TimeoutError, RuntimeError, OSError) as error:
            log.info("push to %s: TEARDOWN failed: %s", self._target.url, error or type(error).__name__)
        self._thread.stop()

    # -- event loop

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def _deliver(self, unit: AccessUnit, unix_ns: int) -> None:
        with self._lock:
            self._pending -= 1
        self._described.set()
        now_ns = time.monotonic_ns()
        if unit.key:
            self._last_key_ns = now_ns
        connection = self._connection
        if connection is None:
            return
        verdict = connection.send(unit, unix_ns, now_ns)
        if verdict is DeliveryDecision.DISCONNECT:
            connection.abort()
        if verdict is not DeliveryDecision.SEND:
            self.dropped_units += 1

    async def _run(self) -> None:
        backoff = Backoff(PUSH)
        await self._described.wait()
        while True:
            started_ns, policy = time.monotonic_ns(), PUSH
            try:
                await self._connect_and_publish()
                reason = "connection closed by the target"
            except PushError as error:
                reason = str(error)
                policy = PUSH_LOGIN if error.status in (401, 403) else PUSH
            except (OSError, TimeoutError, ProtocolError) as error:
                reason = (getattr(error, "strerror", None) or str(error)) or "timeout"
            except Exception as error:  # a defect here must not end the publishing: log it with its traceback
                reason = f"{type(error).__name__}: {error}"
                log.exception("push to %s: unexpected error", self._target.url)
            backoff.delivered(time.monotonic_ns() - started_ns)
            wait_s = backoff.wait_ns(random.random(), policy) / 1e9
            if reason != self.failure:
                log.warning("push to %s: %s; retrying in %.1f s", self._target.url, reason, wait_s)
            self.failure = reason
            await asyncio.sleep(wait_s)

    async def _connect_and_publish(self) -> None:
        """One connection, from connecting to its end."""
        description = self._description
        assert description is not None
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(self._target.host, self._target.port)
        connection = _PushConnection(self._target, reader, writer)
        try:
            await connection.announce(description)
            self.connections += 1
            self.failure = ""
            log.info("push to %s: connected", self._target.url)
            self._connection = connection
            await connection.read_until_closed()
        finally:
            self._connection = None
            connection.abort()

    async def _tear_down(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.tear_down()


class _PushConnection:
    def __init__(self, target: PushTarget, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.delivery = Delivery(patience_ns=STALL_TIMEOUT_NS)
        self._target = target
        self._reader, self._writer = reader, writer
        self._parser = Parser()
        self._sender = Sender(secrets.randbits(32), secrets.randbits(16), secrets.randbits(32))
        self._sequence = 0
        self._session = ""
        self._challenge = ""
        self._responses: list[Response] = []
        configure_socket(writer.get_extra_info("socket"))

    async def announce(self, description: Description) -> None:
        """ANNOUNCE, SETUP and RECORD. Raises :class:`PushError` if the target refuses the stream."""
        url = self._target.url
        host = self._writer.get_extra_info("sockname")[0]
        sdp = write_sdp(description, host=host, session_id=secrets.randbits(31))
        await self._request("ANNOUNCE", url, {"Content-Type": "application/sdp"}, sdp)
        transport = "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"
        response = await self._request("SETUP", f"{url}/{TRACK}", {"Transport": transport})
        self._session = response.headers.get("session", "").partition(";")[0].strip()
        if "interleaved=0-1" not in response.headers.get("transport", "").replace(" ", ""):
            raise PushError(461, "the target does not support interleaved RTP over TCP")
        await self._request("RECORD", url, {"Range": "npt=now-"})

    async def read_until_closed(self) -> None:
        """Reads until the target closes the connection; sends OPTIONS as keep-alive."""
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    data = await self._reader.read(1 << 14)
            except TimeoutError:
                self._write("OPTIONS", self._target.url, {})
                continue
            if not data:
                return
            self._parser.feed(data)  # receiver reports and responses to OPTIONS are not used

    def send(self, unit: AccessUnit, unix_ns: int, now_ns: int) -> DeliveryDecision:
        queued = self._writer.transport.get_write_buffer_size()
        verdict = self.delivery.offer(key=unit.key, queued_bytes=queued, now_ns=now_ns)
        if verdict is DeliveryDecision.SEND:
            pieces: list[bytes] = []
            if self._sender.report_due(now_ns):
                pieces.append(interleaved(1, self._sender.report(unit.capture_ns, unix_ns, now_ns)))
            parts = payloads(unit.nals, PAYLOAD_BYTES)
            pieces += (interleaved(0, packet) for packet in self._sender.packetise(parts, unit.capture_ns))
            data = b"".join(pieces)
            self.delivery.wrote(len(data))
            self._writer.write(data)
        return verdict

    async def tear_down(self) -> None:
        self._write("TEARDOWN", self._target.url, {})
        async with asyncio.timeout(TEARDOWN_S):
            await self._writer.drain()

    def abort(self) -> None:
        self._writer.transport.abort()

    def _write(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> str:
        """Sends a request; returns its CSeq."""
        self._sequence += 1
        full = {"CSeq": str(self._sequence), "User-Agent": "fusepipe", **headers}
        if self._session:
            full["Session"] = self._session
        if self._challenge and self._target.credentials is not None:
            signed = answer(self._target.credentials, self._challenge, method, url)
            if signed is None:
                raise PushError(401, "the target requires an authentication scheme other than Digest with MD5")
            full["Authorization"] = signed
        self._writer.write(Request(method, url, full, body).encode())
        return str(self._sequence)

    async def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        response = await self._response_to(self._write(method, url, headers, body))
        if response.status == 401 and self._target.credentials is not None and not self._challenge:
            self._challenge = response.headers.get("www-authenticate", "Digest")
            response = await self._response_to(self._write(method, url, headers, body))
        if response.status == 401:
            given = "wrong" if self._target.credentials is not None else "missing"
            raise PushError(401, f"authentication failed: user or password {given}")
        if response.status != 200:
            raise PushError(response.status, f"{method} refused with status {response.status}")
        return response

    async def _response_to(self, sequence: str) -> Response:
        async with asyncio.timeout(RESPONSE_S):
            while True:
                while self._responses:
                    if (response := self._responses.pop(0)).headers.get("cseq", sequence) == sequence:
                        return response
                data = await self._reader.read(1 << 14)
                if not data:
                    raise ConnectionResetError("connection closed by the target")
                self._responses += [m for m in self._parser.feed(data) if isinstance(m, Response)]
