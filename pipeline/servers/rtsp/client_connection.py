"""One client of the RTSP server: its requests and the packets sent to it. Runs in the server's event loop."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence

from fusepipe.pipeline.encoding.h264 import AccessUnit
from fusepipe.pipeline.servers.delivery import LIMIT_BYTES, Delivery, DeliveryDecision
from fusepipe.pipeline.servers.log_limit import LogLimit
from fusepipe.pipeline.servers.rtsp.digest import Guard
from fusepipe.pipeline.servers.rtsp.message import Parser, ProtocolError, Request, Response, interleaved
from fusepipe.pipeline.servers.rtsp.rtp import Sender
from fusepipe.pipeline.servers.rtsp.sdp import TRACK
from fusepipe.pipeline.servers.rtsp.session import TIMEOUT_S, Offered, RtspSession, SessionContext, State, path_of
from fusepipe.pipeline.servers.rtsp.stream import Stream
from fusepipe.pipeline.servers.rtsp.tcp import configure_socket
from fusepipe.pipeline.servers.rtsp.udp import Address, UdpPair

MESSAGE_TIMEOUT_S = 10.0  # from the first to the last byte of a request
SETUP_TIMEOUT_S = 15.0  # between requests before SETUP
FIRST_FRAME_TIMEOUT_S = 5.0  # how long DESCRIBE and SETUP wait for the first frame of a stream
UDP_GRACE_S = 10.0
MAX_REQUESTS, REQUEST_WINDOW_S = 60, 10.0  # rate limit


class ClientConnection:
    """:meth:`serve` runs as a task; :meth:`deliver` and the rest are called in the same event loop.

    ``streams`` is the server's live mapping from path to stream. Without ``udp``, only interleaved TCP is offered.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        udp: UdpPair | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limited_log: LogLimit,
    ) -> None:
        self._log = limited_log
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
        self._last_heard_s = time.monotonic()
        self._message_s: float | None = None  # when the incomplete message in the parser started
        self._window_s, self._in_window = self._last_heard_s, 0
        context = SessionContext(
            find=self._offered,
            server_ports=None if self._udp is None else self._udp.ports,
            ssrc=self._sender.ssrc,
            session_id=secrets.token_hex(8),
        )
        self._session = RtspSession(context)
        configure_socket(writer.get_extra_info("socket"))

    # -- requests

    async def serve(self) -> None:
        """Serves the client until it leaves, violates the protocol or is dismissed; never raises on its behalf."""
        try:
            await self._serve_requests()
        except (OSError, TimeoutError, ProtocolError) as error:
            self._log.info("closed", "rtsp client %s: closed: %s", self._peer_ip, str(error) or type(error).__name__)
        except Exception as error:  # noqa: BLE001 - a defect met by one client must not affect the others
            self._log.error("defect", "rtsp client %s: closed: unexpected error", self._peer_ip, error=error)
        finally:
            self._leave_stream()
            if self._queued_bytes:
                self._writer.transport.abort()  # close() would wait for a peer that does not read
            else:
                self._writer.close()

    async def _serve_requests(self) -> None:
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
                self._message_s = None
            if self._parser.in_message and self._message_s is None:
                self._message_s = time.monotonic()
            for message in messages:
                self._last_heard_s = time.monotonic()
                if isinstance(message, Request) and not self._session.hang_up:
                    await self._handle(message)

    async def _read(self) -> bytes:
        """The next bytes; raises ``TimeoutError`` if none arrive within the timeout of the current state."""
        called_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            if self._message_s is not None:
                end_s = self._message_s + MESSAGE_TIMEOUT_S
            elif self._session.state is State.INIT:
                end_s = called_s + SETUP_TIMEOUT_S
            elif self._session.state is State.PLAYING and self._over_tcp:
                end_s = now_s + TIMEOUT_S  # reading the packets proves that it is alive
            else:
                end_s = self._last_heard_s + TIMEOUT_S + UDP_GRACE_S
            if now_s >= end_s:
                raise TimeoutError("idle or incomplete request timed out")
            try:
                async with asyncio.timeout(end_s - now_s):
                    return await self._reader.read(1 << 14)
            except TimeoutError:
                continue  # a report over UDP may have arrived in the meantime

    async def _handle(self, request: Request) -> None:
        if self._rate_limited():
            self._session.hang_up = True
            self._reply(Response(503, {"CSeq": request.headers.get("cseq", "0")[:10]}))
            return
        if request.method in ("DESCRIBE", "SETUP"):
            await self._wait_for_first_frame(request.uri)
        response = self._session.answer(request, self._sender.sequence)
        self._reply(response)
        if response.status == 200:
            self._apply(request.method)

    def _offered(self, path: str) -> Offered | None:
        """The stream at a path; failed logins are counted per connection."""
        stream = self._streams.get(path)
        if stream is None:
            return None
        guard = self._guards.setdefault(path, Guard(stream.credentials))
        return Offered(guard, stream.sdp(self._local_ip), full=len(stream.clients) >= stream.max_clients)

    def _rate_limited(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._window_s >= REQUEST_WINDOW_S:
            self._window_s, self._in_window = now_s, 0
        self._in_window += 1
        return self._in_window > MAX_REQUESTS

    async def _wait_for_first_frame(self, uri: str) -> None:
        stream = self._streams.get((path_of(uri) or "").removesuffix(f"/{TRACK}"))
        if stream is not None and not stream.ready.is_set():
            try:
                async with asyncio.timeout(FIRST_FRAME_TIMEOUT_S):
                    await stream.ready.wait()
            except TimeoutError:
                return  # answered with 503

    def _apply(self, method: str) -> None:
        """Updates delivery after a successful request."""
        if method == "SETUP":
            self._stream = self._streams.get(self._session.path)
            if self._stream is not None:
                self._stream.enter(self)
        elif method == "PLAY":
            text = "rtsp client %s: playing /%s over %s"
            self._log.info("playing", text, self._peer_ip, self._session.path, self._transport_name)
        elif method == "PAUSE":
            self._delivery.pause()
        elif method == "TEARDOWN":
            self._leave_stream()

    def _reply(self, response: Response) -> None:
        self._writer.write(response.encode())
        if self._queued_bytes > 2 * LIMIT_BYTES:
            raise TimeoutError("does not read responses")

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
        """Sends one access unit, drops it, or disconnects the client; never blocks."""
        transport, stream = self._session.transport, self._stream
        if self._session.state is not State.PLAYING or transport is None or stream is None:
            return
        dropped = self._delivery.dropped
        verdict = self._delivery.offer(key=unit.key, queued_bytes=self._queued_bytes, now_ns=now_ns)
        if verdict is DeliveryDecision.DISCONNECT:
            self._log.warning("stalled", "rtsp client %s: client stalled; disconnecting", self._peer_ip)
            stream.disconnected += 1
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
        packets = self._sender.packetise(parts, unit.capture_ns)
        data = b"".join(interleaved(channel, packet) for packet in packets)
        self._delivery.wrote(len(data))
        self._writer.write(data)

    def _send_udp(self, parts: Sequence[bytes], unit: AccessUnit, port: int) -> None:
        assert self._udp is not None
        for packet in self._sender.packetise(parts, unit.capture_ns):
            if not self._udp.send(packet, (self._peer_ip, port)):
                self._delivery.lost()
                return

    def _send_rtcp(self, packet: bytes) -> None:
        transport = self._session.transport
        if transport is None:
            return
        if transport.tcp:
            self._writer.write(interleaved(transport.rtcp, packet))
        elif self._udp is not None:
            self._udp.send(packet, (self._peer_ip, transport.rtcp), rtcp=True)

    def rtcp_received(self, sender: Address) -> None:
        """Receiver reports keep a session over UDP alive."""
        transport = self._session.transport
        if transport is not None and not transport.tcp and sender == (self._peer_ip, transport.rtcp):
            self._last_heard_s = time.monotonic()

    def send_goodbye(self) -> None:
        if self._session.state is State.PLAYING:
            self._send_rtcp(self._sender.goodbye())

    def _leave_stream(self) -> None:
        if self._stream is not None:
            self._stream.leave(self)
            self._stream = None
