"""The RTSP server: one thread and one port, any number of streams. Accepts connections and closes them."""

from __future__ import annotations

import asyncio
import logging

from fusepipe.pipeline.servers.addresses import url_host
from fusepipe.pipeline.servers.admission import ConnectionLimits
from fusepipe.pipeline.servers.listener import Listener
from fusepipe.pipeline.servers.log_limit import LogLimit
from fusepipe.pipeline.servers.loop_thread import LoopThread
from fusepipe.pipeline.servers.rtsp.client_connection import ClientConnection
from fusepipe.pipeline.servers.rtsp.digest import Credentials
from fusepipe.pipeline.servers.rtsp.stream import Stream
from fusepipe.pipeline.servers.rtsp.udp import Address, UdpPair
from fusepipe.pipeline.servers.tls import ServerTls

log = logging.getLogger(__name__)

# for one port: each connection takes a file descriptor and up to about 1 MB
LIMITS = ConnectionLimits(total=128, per_peer=64)
READ_BUFFER_BYTES = 1 << 16
CALL_TIMEOUT_S = 10.0


class RtspServer:
    """Listens on ``host:port`` (port 0: any free one); ``start`` raises ``OSError`` if it cannot.

    With ``tls`` the packets go over the encrypted connection only: RTP over UDP would be readable.
    """

    def __init__(self, host: str, port: int, tls: ServerTls | None = None) -> None:
        self.host, self.port = host, port
        self._tls = tls
        self._scheme = "rtsp" if tls is None else "rtsps"
        self.streams: dict[str, Stream] = {}
        self._thread = LoopThread(f"rtsp-{port}")
        self._listener: Listener | None = None
        self._log = LogLimit(log)
        self._udp: dict[str, UdpPair | None] = {}
        self._connections: dict[ClientConnection, asyncio.Task[None]] = {}

    # -- any thread

    def start(self) -> None:
        self._thread.start()
        try:
            self.port = self._thread.call(self._listen(), CALL_TIMEOUT_S)
        except BaseException:
            self._thread.stop()
            raise

    def add(self, path: str, *, credentials: Credentials | None = None, max_clients: int = 32) -> Stream:
        """A new stream at ``/path``. Raises ``ValueError`` if the path is in use."""
        if path in self.streams:
            raise ValueError(f"{path = } is in use")
        stream = Stream(self._thread, path, credentials, max_clients)
        self.streams[path] = stream
        return stream

    def remove(self, stream: Stream) -> None:
        """Disconnects its clients with a BYE; other streams are not affected."""
        self.streams.pop(stream.path, None)
        try:
            self._thread.call(self._disconnect(stream), CALL_TIMEOUT_S)
        except (TimeoutError, RuntimeError) as error:
            log.warning("%s/%s: disconnecting its clients failed: %s", self._url, stream.path, error)

    def stop(self) -> None:
        try:
            self._thread.call(self._close(), CALL_TIMEOUT_S)
        except (TimeoutError, RuntimeError) as error:
            log.warning("%s: closing failed: %s", self._url, error)
        finally:
            self._thread.stop()

    @property
    def _url(self) -> str:
        return f"{self._scheme}://{url_host(self.host)}:{self.port}"

    # -- event loop

    async def _listen(self) -> int:
        label = f"{self._scheme} port {self.port}"
        self._listener = Listener(self.host, self.port, label, self._protocol, LIMITS, self._tls)
        return self._listener.open()

    def _protocol(self) -> asyncio.Protocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=READ_BUFFER_BYTES), self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        udp = None if self._tls is not None else self._udp_pair(writer.get_extra_info("sockname")[0])
        connection = ClientConnection(self.streams, udp, reader, writer, self._log)
        self._connections[connection] = task
        try:
            await connection.serve()
        except asyncio.CancelledError:
            log.debug("rtsp client disconnected by the server")  # asyncio would report it as an error of the task
        finally:
            del self._connections[connection]

    def _udp_pair(self, ip: str) -> UdpPair | None:
        """The UDP sockets bound to the local address that a client connected to, so that it accepts the packets."""
        if ip not in self._udp:
            try:
                self._udp[ip] = UdpPair(asyncio.get_running_loop(), ip, self._rtcp_received)
            except OSError as error:
                log.warning("rtsp port %d: UDP not available: %s", self.port, error)
                self._udp[ip] = None
        return self._udp[ip]

    def _rtcp_received(self, sender: Address) -> None:
        for connection in self._connections:
            connection.rtcp_received(sender)

    async def _disconnect(self, stream: Stream) -> None:
        clients = [c for c in self._connections if c in stream.clients]
        for connection in clients:
            connection.send_goodbye()
        await self._end(clients)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        everyone = list(self._connections)
        for connection in everyone:
            connection.send_goodbye()
        await self._end(everyone)
        if self._listener is not None:
            await self._listener.wait_closed()
        for pair in self._udp.values():
            if pair is not None:
                pair.close()
        self._udp.clear()

    async def _end(self, connections: list[ClientConnection]) -> None:
        tasks = [self._connections[c] for c in connections if c in self._connections]
        if tasks:
            await asyncio.sleep(0.05)  # lets the last packets leave
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=CALL_TIMEOUT_S / 2)
