"""Pushes a stream to an RTSP server that records it: ANNOUNCE, SETUP, RECORD (RFC 2326, 10.3 and 10.11).

Over TCP, interleaved. The connection lives in a thread of its own; when the target refuses, freezes or
goes away, pictures are dropped and counted, and it is tried again after a growing pause. FFmpeg's RTSP
muxer is not used for this: its write blocks for ever when the peer freezes, whatever timeout it is given.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusepipe.pipeline.encoding.h264 import AccessUnit, payloads
from fusepipe.pipeline.servers.addresses import url_host
from fusepipe.pipeline.servers.delivery import Delivery, DeliveryDecision
from fusepipe.pipeline.servers.loop_thread import LoopThread
from fusepipe.pipeline.servers.rtsp.digest import Credentials, answer
from fusepipe.pipeline.servers.rtsp.message import Parser, ProtocolError, Request, Response, interleaved_head
from fusepipe.pipeline.servers.rtsp.rtp import PAYLOAD_BYTES, Sender
from fusepipe.pipeline.servers.rtsp.sdp import TRACK, Description, write_sdp

log = logging.getLogger(__name__)

CONNECT_S = 5.0
ANSWER_S = 5.0
HEALTHY_S = 30.0  # a connection that lasted so long was a good one: begin again with the shortest pause
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
REFUSED_PAUSE_S = 60.0  # a wrong password does not become right by asking often
KEEP_ALIVE_S = 25.0
FROZEN_NS = 10_000_000_000
SEND_BUFFER_BYTES = 1 << 18
KEY_INTERVAL_NS = 250_000_000
GOODBYE_S = 1.0


class PushError(Exception):
    """The target answered with an error; ``status`` is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class PushTarget:
    """``path`` has no leading slash."""

    host: str
    port: int
    path: str
    credentials: Credentials | None = None

    @property
    def url(self) -> str:
        return f"rtsp://{url_host(self.host)}:{self.port}/{self.path}"


def pause_s(failures: int, refused: bool, jitter: float) -> float:
    """How long to wait after so many failures in a row; ``jitter`` 0..1 spreads programs that fail together."""
    if refused:
        return REFUSED_PAUSE_S
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20))
    return float(pause * (0.75 + 0.5 * jitter))


class Pusher:
    """An outlet (``described``, ``watched``, ``wants_key``, ``publish``) whose other end is far away."""

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
        self.failure = ""  # why it is not connected; empty while it is

    # -- the pipeline's side

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
        return connection is not None and connection.delivery.wants_key and now_ns - self._last_key_ns > KEY_INTERVAL_NS

    def publish(self, unit: AccessUnit, description: Description, unix_ns: int) -> None:
        """Never waits."""
        self._description = description
        with self._lock:
            if self._pending >= 50:  # the loop is starved
                self.dropped_units += 1
                return
            self._pending += 1
        self._thread.post(self._deliver, unit, unix_ns)

    def stop(self) -> None:
        """Says goodbye if the peer listens; ends within a few seconds whatever the peer does."""
        if not self._started:
            return
        try:
            self._thread.call(self._leave(), 2 * GOODBYE_S)
        except (TimeoutError, RuntimeError, OSError) as error:
            log.info("push to %s: leaving: %s", self._target.url, error or type(error).__name__)
        self._thread.stop()

    # -- the loop's side

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
        failures = 0
        await self._described.wait()
        while True:
            began_s, status = time.monotonic(), 0
            try:
                await self._once()
                reason = "the target hung up"
            except PushError as error:
                reason, status = str(error), error.status
            except (OSError, TimeoutError, ProtocolError) as error:
                reason = (getattr(error, "strerror", None) or str(error)) or "no answer in time"
            except Exception as error:  # a fault of ours: logged whole, and no reason to stop pushing
                reason = f"{type(error).__name__}: {error}"
                log.exception("push to %s: unexpected", self._target.url)
            failures = 1 if time.monotonic() - began_s >= HEALTHY_S else failures + 1
            wait_s = pause_s(failures, status in (401, 403), random.random())
            if reason != self.failure:
                log.warning("push to %s: %s; trying again", self._target.url, reason)
            self.failure = reason
            await asyncio.sleep(wait_s)

    async def _once(self) -> None:
        """One connection, from its first to its last byte."""
        description = self._description
        assert description is not None
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(self._target.host, self._target.port)
        connection = _PushConnection(self._target, reader, writer)
        try:
            await connection.announce(description)
            self.connections += 1
            self.failure = ""
            log.info("push to %s: recording", self._target.url)
            self._connection = connection
            await connection.attend()
        finally:
            self._connection = None
            connection.abort()

    async def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.goodbye()


class _PushConnection:
    def __init__(self, target: PushTarget, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.delivery = Delivery(patience_ns=FROZEN_NS)
        self._target = target
        self._reader, self._writer = reader, writer
        self._parser = Parser()
        self._sender = Sender(secrets.randbits(32), secrets.randbits(16), secrets.randbits(32))
        self._sequence = 0
        self._session = ""
        self._challenge = ""
        self._responses: list[Response] = []
        link: socket.socket = writer.get_extra_info("socket")
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    async def announce(self, description: Description) -> None:
        """Up to RECORD. Raises :class:`PushError` where the target does not want the stream."""
        url = self._target.url
        host = self._writer.get_extra_info("sockname")[0]
        sdp = write_sdp(description, host=host, session_id=secrets.randbits(31))
        await self._ask("ANNOUNCE", url, {"Content-Type": "application/sdp"}, sdp)
        transport = "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"
        answered = await self._ask("SETUP", f"{url}/{TRACK}", {"Transport": transport})
        self._session = answered.headers.get("session", "").partition(";")[0].strip()
        if "interleaved=0-1" not in answered.headers.get("transport", "").replace(" ", ""):
            raise PushError(461, "the target does not take RTP over its connection (interleaved)")
        await self._ask("RECORD", url, {"Range": "npt=now-"})

    async def attend(self) -> None:
        """Reads what the target says until it hangs up; tells it now and then that we are there."""
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    data = await self._reader.read(1 << 14)
            except TimeoutError:
                self._write("OPTIONS", self._target.url, {})
                continue
            if not data:
                return
            self._parser.feed(data)  # receiver reports and answers to OPTIONS: nothing to do

    def send(self, unit: AccessUnit, unix_ns: int, now_ns: int) -> DeliveryDecision:
        queued = self._writer.transport.get_write_buffer_size()
        verdict = self.delivery.offer(key=unit.key, queued_bytes=queued, now_ns=now_ns)
        if verdict is DeliveryDecision.SEND:
            pieces: list[bytes] = []
            if self._sender.report_due(now_ns):
                report = self._sender.report(unit.capture_ns, unix_ns, now_ns)
                pieces += (interleaved_head(1, len(report)), report)
            data = b"".join(pieces + self._packets(list(payloads(unit.nals, PAYLOAD_BYTES)), unit))
            self.delivery.wrote(len(data))
            self._writer.write(data)
        return verdict

    def _packets(self, parts: Sequence[bytes], unit: AccessUnit) -> list[bytes]:
        pieces: list[bytes] = []
        for number, part in enumerate(parts, 1):
            head = self._sender.header(unit.capture_ns, marker=number == len(parts), payload_bytes=len(part))
            pieces += (interleaved_head(0, len(head) + len(part)), head, part)
        return pieces

    async def goodbye(self) -> None:
        self._write("TEARDOWN", self._target.url, {})
        async with asyncio.timeout(GOODBYE_S):
            await self._writer.drain()

    def abort(self) -> None:
        self._writer.transport.abort()

    def _write(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> str:
        """Sends a request; the CSeq that its answer will carry."""
        self._sequence += 1
        full = {"CSeq": str(self._sequence), "User-Agent": "fusepipe", **headers}
        if self._session:
            full["Session"] = self._session
        if self._challenge and self._target.credentials is not None:
            signed = answer(self._target.credentials, self._challenge, method, url)
            if signed is None:
                raise PushError(401, "the target asks for an authentication other than digest with MD5")
            full["Authorization"] = signed
        self._writer.write(Request(method, url, full, body).encode())
        return str(self._sequence)

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        response = await self._answer_to(self._write(method, url, headers, body))
        if response.status == 401 and self._target.credentials is not None and not self._challenge:
            self._challenge = response.headers.get("www-authenticate", "Digest")
            response = await self._answer_to(self._write(method, url, headers, body))
        if response.status == 401:
            given = "wrong" if self._target.credentials is not None else "missing"
            raise PushError(401, f"the target refuses: user or password {given}")
        if response.status != 200:
            raise PushError(response.status, f"the target answers {method} with {response.status}")
        return response

    async def _answer_to(self, sequence: str) -> Response:
        async with asyncio.timeout(ANSWER_S):
            while True:
                while self._responses:
                    if (response := self._responses.pop(0)).headers.get("cseq", sequence) == sequence:
                        return response
                data = await self._reader.read(1 << 14)
                if not data:
                    raise ConnectionResetError("the target hung up")
                self._responses += [m for m in self._parser.feed(data) if isinstance(m, Response)]
