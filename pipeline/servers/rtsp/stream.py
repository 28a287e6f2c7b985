"""One published stream: the pipeline's thread publishes access units, the server's loop delivers them.

A slow or misbehaving client never blocks the pipeline: :meth:`Stream.publish` hands an access unit to the loop and
returns.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fusepipe.pipeline.encoding.h264 import AccessUnit, payloads
from fusepipe.pipeline.servers.delivery import MAX_PENDING_UNITS, MIN_KEY_INTERVAL_NS
from fusepipe.pipeline.servers.loop_thread import LoopThread
from fusepipe.pipeline.servers.rtsp.digest import Credentials
from fusepipe.pipeline.servers.rtsp.rtp import PAYLOAD_BYTES
from fusepipe.pipeline.servers.rtsp.sdp import Description, write_sdp


class Client(Protocol):
    """A connection that has set up the stream; called in the server's loop."""

    @property
    def wants_key(self) -> bool:
        """Whether it is playing and can only resume on a key frame."""

    def deliver(self, parts: Sequence[bytes], unit: AccessUnit, unix_ns: int, now_ns: int) -> None:
        """Sends one access unit, whose RTP payloads are ``parts``, or drops it; never blocks."""


@dataclass(frozen=True, slots=True)
class StreamCounts:
    """``clients`` now; the others since the start. ``disconnected`` clients had stalled."""

    clients: int
    clients_total: int
    dropped_units: int
    disconnected: int


class Stream:
    """One stream of a server, at ``/path``."""

    def __init__(self, thread: LoopThread, path: str, credentials: Credentials | None, max_clients: int) -> None:
        self.path = path
        self.credentials = credentials
        self.max_clients = max_clients
        self.description: Description | None = None
        self.ready = asyncio.Event()
        self.clients: set[Client] = set()
        self.clients_total = self.disconnected = self.dropped_units = 0
        self._thread = thread
        self._pending = 0
        self._lock = threading.Lock()
        self._last_key_ns = 0
        self._session_number = int.from_bytes(os.urandom(4), "big")

    # -- pipeline thread

    @property
    def watched(self) -> bool:
        """Whether a client has set it up or plays it."""
        return bool(self.clients)

    @property
    def described(self) -> bool:
        """Whether a frame has been published, so that its SDP is known."""
        return self.description is not None

    def wants_key(self, now_ns: int) -> bool:
        """Whether a client needs a key frame; the caller encodes and publishes one."""
        if now_ns - self._last_key_ns < MIN_KEY_INTERVAL_NS:
            return False
        return any(client.wants_key for client in tuple(self.clients))

    def publish(self, unit: AccessUnit, description: Description, unix_ns: int) -> None:
        """Delivers one unit, or drops it; never blocks. ``unix_ns`` is the wall-clock time of its capture."""
        with self._lock:
            if self._pending >= MAX_PENDING_UNITS:
                self.dropped_units += 1
                return
            self._pending += 1
        if not self._thread.post(self._deliver, unit, description, unix_ns):
            with self._lock:
                self._pending -= 1

    def counts(self) -> StreamCounts:
        return StreamCounts(len(self.clients), self.clients_total, self.dropped_units, self.disconnected)

    # -- event loop

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

    def enter(self, client: Client) -> None:
        if client not in self.clients:
            self.clients.add(client)
            self.clients_total += 1

    def leave(self, client: Client) -> None:
        self.clients.discard(client)
