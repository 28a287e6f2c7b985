"""Accepts TCP connections, with or without TLS, within limits. Runs in an event loop.

``asyncio`` has no limit of connections, and when the process is out of descriptors its servers retry more and more
often and log each attempt with a traceback (hundreds of thousands of lines per minute). So connections are accepted
here and then handed to ``asyncio``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from fusepipe.pipeline.servers.addresses import listening_sockets
from fusepipe.pipeline.servers.admission import Admission, ConnectionLimits, spare_descriptors
from fusepipe.pipeline.servers.log_limit import LogLimit
from fusepipe.pipeline.servers.tls import ServerTls

log = logging.getLogger(__name__)

BACKLOG = 64
BATCH = 16  # connections accepted before other tasks of the loop get their turn
REFUSED_PAUSE_S = 0.05  # after a batch with refusals: they cost at most a few hundred calls per second
NO_DESCRIPTORS_PAUSE_S = 1.0
SWEEP_S = 1.0
HANDSHAKE_S = 10.0  # max time for a TLS handshake, so that a silent client does not keep its connection
ENDING_S = 0.5  # how long the connections of a server that stops have to close; TLS waits for the peer's answer
CLOSING_S = 10.0  # how long a peer may take to read the rest of a connection that is being closed
_RESET = struct.pack("ii", 1, 0)  # close with a reset: nothing of a refused connection remains


@dataclass
class _Connection:
    peer: str
    transport: asyncio.Transport | None = None  # None during the TLS handshake
    closing_s: float | None = None


class Listener:
    """Accepts connections on ``host:port`` and gives each a protocol of ``factory``.

    ``label`` names the server in log lines; with ``tls`` the protocol begins after the handshake.
    """

    def __init__(
        self,
        host: str,
        port: int,
        label: str,
        factory: Callable[[], asyncio.Protocol],
        limits: ConnectionLimits,
        tls: ServerTls | None = None,
    ) -> None:
        self._tls = tls
        self._address = host, port
        self._label = label
        self._factory = factory
        self._admission = Admission(limits)
        self._log = LogLimit(log)
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._connections: dict[socket.socket, _Connection] = {}
        self._tasks: dict[asyncio.Task[None], socket.socket] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def open(self) -> int:
        """Listens; returns the port. Raises ``OSError``."""
        self._sockets = listening_sockets(*self._address, BACKLOG)
        for listening in self._sockets:
            listening.setblocking(False)
            self._loop.add_reader(listening, self._accept, listening)
        return int(self._sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stops listening. Open connections stay; the server closes them."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        for handle in self._paused.values():
            handle.cancel()
        self._sockets.clear()
        self._paused.clear()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Waits for the connections that the server has closed, and aborts those that remain."""
        for _ in range(2):
            end_s = self._loop.time() + ENDING_S
            while self._connections and self._loop.time() < end_s:
                await asyncio.sleep(0.01)
                self._forget_closed()
            for entry in self._connections.values():
                if entry.transport is not None:
                    entry.transport.abort()

    # -- accepting

    def _accept(self, listening: socket.socket) -> None:
        self._forget_closed()
        refused = False
        for _ in range(BATCH):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:  # no descriptor or no memory left
                self._log.warning("accept", "%s: cannot accept connections: %s", self._label, error.strerror)
                self._pause(listening, NO_DESCRIPTORS_PAUSE_S)
                return
            refused |= not self._admit(connection, str(address[0]))
        if refused:
            self._pause(listening, REFUSED_PAUSE_S)

    def _admit(self, connection: socket.socket, peer: str) -> bool:
        if reason := self._admission.refusal(peer, spare_descriptors()):
            self._log.warning("refused", "%s: connection from %s refused: %s", self._label, peer, reason)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.close()
            return False
        connection.setblocking(False)
        self._admission.enter(peer)
        entry = self._connections[connection] = _Connection(peer)
        task = self._loop.create_task(self._connect(connection, entry))
        self._tasks[task] = connection
        task.add_done_callback(self._connected)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        return True

    async def _connect(self, connection: socket.socket, entry: _Connection) -> None:
        try:
            transport, _ = await self._connected_transport(connection)
        except OSError as error:  # the peer left, or its TLS handshake failed
            self._log.info("handshake", "%s: connection from %s failed: %s", self._label, entry.peer, reason_of(error))
            connection.close()
        else:
            entry.transport = transport

    async def _connected_transport(self, connection: socket.socket) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        connect = self._loop.connect_accepted_socket
        if self._tls is None:
            return await connect(self._factory, connection)
        return await connect(
            self._factory,
            connection,
            ssl=self._tls.context(),
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=CLOSING_S,
        )

    def _connected(self, task: asyncio.Task[None]) -> None:
        connection = self._tasks.pop(task)
        if task.cancelled():
            connection.close()

    def _pause(self, listening: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listening)
        self._paused[listening] = self._loop.call_later(seconds, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        del self._paused[listening]
        self._loop.add_reader(listening, self._accept, listening)

    # -- open connections

    def _forget_closed(self) -> None:
        for connection in [each for each in self._connections if each.fileno() < 0]:
            self._admission.leave(self._connections.pop(connection).peer)

    def _sweep(self) -> None:
        """Aborts connections that are being closed and whose peer does not read the rest."""
        self._forget_closed()
        now_s = self._loop.time()
        for entry in self._connections.values():
            if entry.transport is None or not entry.transport.is_closing():
                continue
            if entry.closing_s is None:
                entry.closing_s = now_s
            elif now_s - entry.closing_s >= CLOSING_S:
                entry.transport.abort()
        more = bool(self._connections)
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep) if more else None


def reason_of(error: OSError) -> str:
    """An error of a connection in a few words, without what the peer sent."""
    if isinstance(error, ConnectionAbortedError) and error.errno is None:  # asyncio's, of a handshake
        return "TLS handshake timed out"
    reason = getattr(error, "reason", None)  # of ssl.SSLError
    if reason in ("HTTP_REQUEST", "WRONG_VERSION_NUMBER"):
        return "no TLS; the URL begins with https:// or rtsps://"
    if isinstance(reason, str):
        return "TLS handshake: " + reason.replace("_", " ").lower()
    return error.strerror or type(error).__name__
