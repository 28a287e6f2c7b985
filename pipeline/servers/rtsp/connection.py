"""One client of the RTSP server: its requests, and the packets that go to it. Runs in the server's loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Mapping, Sequence

from fusepipe.pipeline.encoding.h264 import AccessUnit
from fusepipe.pipeline.servers.delivery import LIMIT_BYTES, Delivery, DeliveryDecision
from fusepipe.pipeline.servers.rtsp.digest import Guard
from fusepipe.pipeline.servers.rtsp.message import Parser, ProtocolError, Request, Response, interleaved_head
from fusepipe.pipeline.servers.rtsp.rtp import Sender
from fusepipe.pipeline.servers.rtsp.sdp import TRACK
from fusepipe.pipeline.servers.rtsp.session import TIMEOUT_S, Offered, RtspSession, SessionContext, State, path_of
from fusepipe.pipeline.servers.rtsp.stream import Stream
from fusepipe.pipeline.servers.rtsp.udp import Address, UdpPair

log = logging.getLogger(__name__)

MESSAGE_S = 10.0  # within which a message that has begun has to end
GREETING_S = 15.0  # between requests, until something was set up
FIRST_PICTURE_S = 5.0  # that DESCRIBE waits for a stream which has no picture yet
UDP_GRACE_S = 10.0
REQUESTS, REQUESTS_S = 60, 10.0  # so many requests in so many seconds
SEND_BUFFER_BYTES = 1 << 18  # of the system; a larger one would only hide that a client lags


class ClientConnection:
    """``serve`` it as a task; :meth:`deliver` and the rest are called from the same loop.

    ``streams`` are the server's by path, now and later; without ``udp`` there is only interleaved TCP.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        udp: UdpPair | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._streams = streams
        self._udp = udp
        self._reader = reader
        self._writer = writer
        self._parser = Parser()
        self._guards: dict[str, Guard] = {}
        self._local_ip: str = writer.get_extra_info("sockname")[0]
        self._peer_ip: str = writer.get_extra_info("peername", ("?", 0))[0]
        self._sender = Sender(secrets.randbits(32), secrets.randbits(16), secrets.randbits(32))
        self._delivery = Delivery()
        self._stream: Stream | None = None
        self._heard_s = time.monotonic()
        self._began_s: float | None = None  # when the message began that has not ended yet
        self._window_s, self._in_window = self._heard_s, 0
        facts = SessionContext(
            find=self._offered,
            server_ports=None if self._udp is None else self._udp.ports,
            ssrc=self._sender.ssrc,
            session_id=secrets.token_hex(8),
        )
        self._session = RtspSession(facts)
        _tune(writer.get_extra_info("socket"))

    # -- requests

    async def serve(self) -> None:
        """Until the client has gone, misbehaves or is dismissed; never raises what one client can cause."""
        try:
            await self._talk()
        except (OSError, TimeoutError, ProtocolError) as error:
            log.info("rtsp client %s: %s", self._peer_ip, error or type(error).__name__)
        except Exception:  # one client's doing must not become another's
            log.exception("rtsp client %s: unexpected", self._peer_ip)
        finally:
            self._leave()
            if self._queued_bytes:
                self._writer.transport.abort()  # closing would wait for a peer that reads nothing
            else:
                self._writer.close()

    async def _talk(self) -> None:
        while not self._session.hang_up:
            data = await self._read()
            if not data:
                return
            try:
                messages = self._parser.feed(data)
            except ProtocolError as error:
                self._reply(Response(error.status, {"Server": "fusepipe"}))
                raise
            if messages or not self._parser.in_message:
                self._began_s = None
            if self._parser.in_message and self._began_s is None:
                self._began_s = time.monotonic()
            for message in messages:
                self._heard_s = time.monotonic()
                if isinstance(message, Request) and not self._session.hang_up:
                    await self._handle(message)

    async def _read(self) -> bytes:
        """The next bytes; raises ``TimeoutError`` when they do not come within what the state allows."""
        called_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            if self._began_s is not None:
                end_s = self._began_s + MESSAGE_S
            elif self._session.state is State.INIT:
                end_s = called_s + GREETING_S
            elif self._session.state is State.PLAYING and self._over_tcp:
                end_s = now_s + TIMEOUT_S  # that it takes the packets is sign enough of life
            else:
                end_s = self._heard_s + TIMEOUT_S + UDP_GRACE_S
            if now_s >= end_s:
                raise TimeoutError("said nothing in time, or did not end what it began")
            try:
                async with asyncio.timeout(end_s - now_s):
                    return await self._reader.read(1 << 14)
            except TimeoutError:
                continue  # it may have been heard over UDP meanwhile

    async def _handle(self, request: Request) -> None:
        if not self._may_ask():
            self._session.hang_up = True
            self._reply(Response(503, {"CSeq": request.headers.get("cseq", "0")[:10]}))
            return
        if request.method in ("DESCRIBE", "SETUP"):
            await self._first_picture(request.uri)
        response = self._session.answer(request, self._sender.sequence)
        self._reply(response)
        if response.status == 200:
            self._follow(request.method)

    def _offered(self, path: str) -> Offered | None:
        """The stream under a path; each connection counts its failed passwords itself."""
        stream = self._streams.get(path)
        if stream is None:
            return None
        guard = self._guards.setdefault(path, Guard(stream.credentials))
        return Offered(guard, stream.sdp(self._local_ip), full=len(stream.clients) >= stream.max_clients)

    def _may_ask(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._window_s >= REQUESTS_S:
            self._window_s, self._in_window = now_s, 0
        self._in_window += 1
        return self._in_window <= REQUESTS

    async def _first_picture(self, uri: str) -> None:
        stream = self._streams.get((path_of(uri) or "").removesuffix(f"/{TRACK}"))
        if stream is not None and not stream.ready.is_set():
            try:
                async with asyncio.timeout(FIRST_PICTURE_S):
                    await stream.ready.wait()
            except TimeoutError:
                return  # the answer is 503

    def _follow(self, method: str) -> None:
        """Brings the packets into line with the session's new state."""
        if method == "SETUP":
            self._stream = self._streams.get(self._session.path)
            if self._stream is not None:
                self._stream.enter(self)
        elif method == "PLAY":
            log.info("rtsp client %s plays /%s over %s", self._peer_ip, self._session.path, self._transport_name)
        elif method == "PAUSE":
            self._delivery.pause()
        elif method == "TEARDOWN":
            self._leave()

    def _reply(self, response: Response) -> None:
        self._writer.write(response.encode())
        if self._queued_bytes > 2 * LIMIT_BYTES:
            raise TimeoutError("asks and does not read the answers")

    # -- packets

    @property
    def _over_tcp(self) -> bool:
        return self._session.transport is not None and self._session.transport.tcp

    @property
    def _transport_name(self) -> str:
        return "TCP" if self._over_tcp else "UDP"

    @property
    def _queued_bytes(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    @property
    def wants_key(self) -> bool:
        return self._session.state is State.PLAYING and self._delivery.wants_key

    def deliver(self, parts: Sequence[bytes], unit: AccessUnit, unix_ns: int, now_ns: int) -> None:
        """Sends one access unit, drops it, or gives the client up; never waits."""
        transport, stream = self._session.transport, self._stream
        if self._session.state is not State.PLAYING or transport is None or stream is None:
            return
        dropped = self._delivery.dropped
        verdict = self._delivery.offer(key=unit.key, queued_bytes=self._queued_bytes, now_ns=now_ns)
        if verdict is DeliveryDecision.DISCONNECT:
            log.warning("rtsp client %s takes nothing; given up", self._peer_ip)
            stream.given_up += 1
            stream.leave(self)
            self._writer.transport.abort()
        elif verdict is DeliveryDecision.SEND:
            if self._sender.report_due(now_ns):
                self._send_rtcp(self._sender.report(unit.capture_ns, unix_ns, now_ns))
            if transport.tcp:
                self._send_tcp(parts, unit, transport.rtp)
            else:
                self._send_udp(parts, unit, transport.rtp)
        stream.dropped_units += self._delivery.dropped - dropped

    def _send_tcp(self, parts: Sequence[bytes], unit: AccessUnit, channel: int) -> None:
        pieces: list[bytes] = []
        for number, part in enumerate(parts, 1):
            head = self._sender.header(unit.capture_ns, marker=number == len(parts), payload_bytes=len(part))
            pieces += (interleaved_head(channel, len(head) + len(part)), head, part)
        data = b"".join(pieces)
        self._delivery.wrote(len(data))
        self._writer.write(data)

    def _send_udp(self, parts: Sequence[bytes], unit: AccessUnit, port: int) -> None:
        assert self._udp is not None
        for number, part in enumerate(parts, 1):
            head = self._sender.header(unit.capture_ns, marker=number == len(parts), payload_bytes=len(part))
            if not self._udp.send(head + part, (self._peer_ip, port)):
                self._delivery.lost()
                return

    def _send_rtcp(self, packet: bytes) -> None:
        transport = self._session.transport
        if transport is None:
            return
        if transport.tcp:
            self._writer.write(interleaved_head(transport.rtcp, len(packet)) + packet)
        elif self._udp is not None:
            self._udp.send(packet, (self._peer_ip, transport.rtcp), rtcp=True)

    def heard(self, sender: Address) -> None:
        """An RTCP packet came from there: a client over UDP that reports is alive."""
        transport = self._session.transport
        if transport is not None and not transport.tcp and sender == (self._peer_ip, transport.rtcp):
            self._heard_s = time.monotonic()

    def say_goodbye(self) -> None:
        if self._session.state is State.PLAYING:
            self._send_rtcp(self._sender.goodbye())

    def _leave(self) -> None:
        if self._stream is not None:
            self._stream.leave(self)
            self._stream = None


def _tune(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    # the system notices a peer that vanished without a word, within about a minute
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
