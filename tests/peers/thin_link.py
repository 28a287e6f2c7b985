"""A slow link between a WebRTC server and one viewer: UDP to the viewer at a limited rate, with a short queue.

The test replaces the server's port in the answer by ``port``. Packets from the viewer pass undelayed.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import Counter, deque

HOST = "127.0.0.1"
QUEUE_BYTES = 16_000  # the queue of a small router: about ten packets


class ThinLink:
    """``rate_bps`` can be changed at any time (``None``: unlimited); ``packets`` and ``bytes`` count passed, lost."""

    def __init__(self, rate_bps: float | None = None) -> None:
        self.rate_bps = rate_bps
        self.packets: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._near, self._far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for each in (self._near, self._far):
            each.bind((HOST, 0))
            each.setblocking(False)
        self.port = int(self._near.getsockname()[1])
        self._server: tuple[str, int] | None = None
        self._viewer: tuple[str, int] | None = None
        self._queue: deque[tuple[float, bytes]] = deque()  # with the time of arrival
        self._free_s = 0.0  # when the link has sent what it took
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"thin-link-{self.port}")
        self._thread.start()

    def lead_to(self, server_port: int) -> None:
        """Sets the server's port, once its answer names it."""
        self._server = (HOST, server_port)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._near.close()
        self._far.close()

    def __enter__(self) -> ThinLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the thread

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._near, selectors.EVENT_READ)
            selector.register(self._far, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in selector.select(0.005):
                    (self._to_server if key.fileobj is self._near else self._take)()
                self._pass_on()

    def _to_server(self) -> None:
        data, self._viewer = self._near.recvfrom(65536)
        if self._server is not None:
            self._far.sendto(data, self._server)

    def _take(self) -> None:
        data, _ = self._far.recvfrom(65536)
        rate_bps = self.rate_bps
        room = rate_bps is None or sum(len(waiting) for _, waiting in self._queue) < QUEUE_BYTES
        self._count("passed" if room else "lost", data)
        if room:
            self._queue.append((time.monotonic(), data))

    def _pass_on(self) -> None:
        now_s = time.monotonic()
        while self._queue and self._viewer is not None and (self.rate_bps is None or self._free_s <= now_s):
            arrived_s, data = self._queue.popleft()
            if self.rate_bps is not None:  # from when it could begin, not from when this thread came to it
                self._free_s = max(self._free_s, arrived_s) + len(data) * 8 / self.rate_bps
            self._near.sendto(data, self._viewer)

    def _count(self, what: str, data: bytes) -> None:
        self.packets[what] += 1
        self.bytes[what] += len(data)
