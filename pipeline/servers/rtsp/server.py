"""The RTSP server: one thread and one port, any number of streams; it accepts connections and ends them."""

from __future__ import annotations

import asyncio
import logging

from fusepipe.pipeline.servers.loop_thread import LoopThread
from fusepipe.pipeline.servers.rtsp.connection import ClientConnection
from fusepipe.pipeline.servers.rtsp.digest import Credentials
from fusepipe.pipeline.servers.rtsp.stream import Stream
from fusepipe.pipeline.servers.rtsp.udp import Address, UdpPair

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 128  # of one port; each costs a descriptor and up to about a megabyte
START_S = 10.0


class RtspServer:
    """Listens on ``host:port`` (port 0: any free one). ``start`` raises ``OSError`` where it cannot."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.streams: dict[str, Stream] = {}
        self._thread = LoopThread(f"rtsp-{port}")
        self._listener: asyncio.Server | None = None
        self._udp: dict[str, UdpPair | None] = {}
        self._connections: dict[ClientConnection, asyncio.Task[None]] = {}

    # -- any thread

    def start(self) -> None:
        self._thread.start()
        try:
            self.port = self._thread.call(self._listen(), START_S)
        except BaseException:
            self._thread.stop()
            raise

    def add(self, path: str, *, credentials: Credentials | None = None, max_clients: int = 32) -> Stream:
        """A new stream under ``/path``. Raises ``ValueError`` where there is one already."""
        if path in self.streams:
            raise ValueError(f"{path = } is taken")
        stream = Stream(self._thread, path, credentials, max_clients)
        self.streams[path] = stream
        return stream

    def remove(self, stream: Stream) -> None:
        """Says goodbye to its clients; those of other streams do not notice."""
        self.streams.pop(stream.path, None)
        try:
            self._thread.call(self._dismiss(stream), START_S)
        except (TimeoutError, RuntimeError) as error:
            log.warning("rtsp://%s:%d/%s: closing its clients: %s", self.host, self.port, stream.path, error)

    def stop(self) -> None:
        try:
            self._thread.call(self._close(), START_S)
        except (TimeoutError, RuntimeError) as error:
            log.warning("rtsp://%s:%d: closing: %s", self.host, self.port, error)
        finally:
            self._thread.stop()

    # -- in the loop

    async def _listen(self) -> int:
        self._listener = await asyncio.start_server(self._accept, self.host, self.port, limit=1 << 16, backlog=32)
        return int(self._listener.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            log.warning("rtsp port %d: more than %d connections; one was refused", self.port, MAX_CONNECTIONS)
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        udp = self._udp_pair(writer.get_extra_info("sockname")[0])
        connection = ClientConnection(self.streams, udp, reader, writer)
        self._connections[connection] = task
        try:
            await connection.serve()
        except asyncio.CancelledError:
            log.debug("a client was dismissed")  # this is the task's end; asyncio would report it as an error
        finally:
            del self._connections[connection]

    def _udp_pair(self, ip: str) -> UdpPair | None:
        """The sockets for clients that reached us under ``ip``, so that packets come from where they look."""
        if ip not in self._udp:
            try:
                self._udp[ip] = UdpPair(asyncio.get_running_loop(), ip, self._heard)
            except OSError as error:
                log.warning("rtsp port %d: no UDP: %s", self.port, error)
                self._udp[ip] = None
        return self._udp[ip]

    def _heard(self, sender: Address) -> None:
        for connection in self._connections:
            connection.heard(sender)

    async def _dismiss(self, stream: Stream) -> None:
        gone = [c for c in self._connections if c in stream.clients]
        for connection in gone:
            connection.say_goodbye()
        await self._end(gone)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        everyone = list(self._connections)
        for connection in everyone:
            connection.say_goodbye()
        await self._end(everyone)
        for pair in self._udp.values():
            if pair is not None:
                pair.close()
        self._udp.clear()

    async def _end(self, connections: list[ClientConnection]) -> None:
        tasks = [self._connections[c] for c in connections if c in self._connections]
        if tasks:
            await asyncio.sleep(0.05)  # what was written last may still leave
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=START_S / 2)
