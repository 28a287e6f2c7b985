"""The RTSP server: one thread and one port, any number of streams.

What a client sends, or fails to take, never reaches the pipeline: :meth:`Stream.publish` hands a picture to
the server's loop and returns. All else here runs in that loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from dataclasses import dataclass

from fusepipe.pipeline.encoding.h264 import AccessUnit, payloads
from fusepipe.pipeline.servers.loop_thread import LoopThread
from fusepipe.pipeline.servers.rtsp.connection import Connection
from fusepipe.pipeline.servers.rtsp.digest import Credentials, Guard
from fusepipe.pipeline.servers.rtsp.rtp import PAYLOAD_BYTES
from fusepipe.pipeline.servers.rtsp.sdp import Description, write_sdp
from fusepipe.pipeline.servers.rtsp.session import Offered
from fusepipe.pipeline.servers.rtsp.udp import Address, UdpPair

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 128  # of one port; each costs a descriptor and up to about a megabyte
START_S = 10.0
PENDING_UNITS = 50  # handed to the loop and not yet delivered; more means that the loop is starved
KEY_INTERVAL_NS = 250_000_000  # key frames that clients ask for come no faster: they cost the others bandwidth


@dataclass(frozen=True, slots=True)
class StreamCounts:
    """``clients`` now; the others since the start."""

    clients: int
    clients_total: int
    dropped_units: int
    given_up: int


class Stream:
    """One stream of a server. The pipeline's thread publishes; everything else happens in the loop."""

    def __init__(self, thread: LoopThread, path: str, credentials: Credentials | None, max_clients: int) -> None:
        self.path = path
        self.credentials = credentials
        self.max_clients = max_clients
        self.description: Description | None = None
        self.ready = asyncio.Event()
        self.clients: set[Connection] = set()
        self.clients_total = self.given_up = self.dropped_units = 0
        self._thread = thread
        self._pending = 0
        self._lock = threading.Lock()
        self._last_key_ns = 0
        self._session_number = int.from_bytes(os.urandom(4), "big")

    # -- the pipeline's side

    @property
    def watched(self) -> bool:
        """Whether anybody has set up or plays."""
        return bool(self.clients)

    @property
    def described(self) -> bool:
        """Whether a picture has come, so that clients can be told what to expect."""
        return self.description is not None

    def wants_key(self, now_ns: int) -> bool:
        """Whether a client waits for a key frame; the caller makes one and publishes it."""
        if now_ns - self._last_key_ns < KEY_INTERVAL_NS:
            return False
        return any(client.wants_key for client in tuple(self.clients))

    def publish(self, unit: AccessUnit, description: Description, unix_ns: int) -> None:
        """Never waits. ``unix_ns`` is the wall-clock time of the unit's capture."""
        with self._lock:
            if self._pending >= PENDING_UNITS:
                self.dropped_units += 1
                return
            self._pending += 1
        if not self._thread.post(self._deliver, unit, description, unix_ns):
            with self._lock:
                self._pending -= 1

    def counts(self) -> StreamCounts:
        return StreamCounts(len(self.clients), self.clients_total, self.dropped_units, self.given_up)

    # -- the loop's side

    def _deliver(self, unit: AccessUnit, description: Description, unix_ns: int) -> None:
        with self._lock:
            self._pending -= 1
        self.description = description
        self.ready.set()
        now_ns = time.monotonic_ns()
        if unit.key:
            self._last_key_ns = now_ns
        if not self.clients:
            return
        parts = list(payloads(unit.nals, PAYLOAD_BYTES))
        for client in tuple(self.clients):
            client.deliver(parts, unit, unix_ns, now_ns)

    def sdp(self, host: str) -> bytes | None:
        if self.description is None:
            return None
        return write_sdp(self.description, host=host, session_id=self._session_number)

    def enter(self, client: Connection) -> None:
        if client not in self.clients:
            self.clients.add(client)
            self.clients_total += 1

    def leave(self, client: Connection) -> None:
        self.clients.discard(client)


class RtspServer:
    """Listens on ``host:port`` (port 0: any free one). ``start`` raises ``OSError`` where it cannot."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.streams: dict[str, Stream] = {}
        self._thread = LoopThread(f"rtsp-{port}")
        self._listener: asyncio.Server | None = None
        self._udp: dict[str, UdpPair | None] = {}
        self._connections: dict[Connection, asyncio.Task[None]] = {}

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
        connection = Connection(self, reader, writer)
        self._connections[connection] = task
        try:
            await connection.serve()
        except asyncio.CancelledError:
            log.debug("a client was dismissed")  # this is the task's end; asyncio would report it as an error
        finally:
            del self._connections[connection]

    def stream_of(self, path: str) -> Stream | None:
        return self.streams.get(path)

    def offer(self, path: str, host: str, guards: dict[str, Guard]) -> Offered | None:
        """What there is under a path for a connection, which keeps its own ``guards``."""
        stream = self.streams.get(path)
        if stream is None:
            return None
        guard = guards.setdefault(path, Guard(stream.credentials))
        return Offered(guard, stream.sdp(host), full=len(stream.clients) >= stream.max_clients)

    def udp(self, ip: str) -> UdpPair | None:
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

    async def _end(self, connections: list[Connection]) -> None:
        tasks = [self._connections[c] for c in connections if c in self._connections]
        if tasks:
            await asyncio.sleep(0.05)  # what was written last may still leave
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=START_S / 2)
