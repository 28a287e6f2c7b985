"""Servers that several sinks share: the first one on an address starts it, the last one stops it.

A port belongs to the process, so this table does too; it is the one such state of the pipeline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from fusepipe.core.errors import SinkError
from fusepipe.pipeline.servers.addresses import listening_problem, require_free


class _Server(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


S = TypeVar("S", bound=_Server)


class SharedServers(Generic[S]):
    """By (host, port). ``make`` builds a server that is not started."""

    def __init__(self, make: Callable[[str, int], S]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._users: dict[tuple[str, int], tuple[S, int]] = {}

    def acquire(self, host: str, port: int, label: str) -> S:
        """The running server of this address. Raises :class:`SinkError` where it cannot listen there."""
        with self._lock:
            server, users = self._users.get((host, port), (None, 0))
            if server is None:
                server = self._make(host, port)
                try:
                    server.start()
                except OSError as error:
                    raise SinkError(listening_problem(label, port, error)) from error
            self._users[host, port] = server, users + 1
            return server

    def release(self, host: str, port: int) -> None:
        """The counterpart of :meth:`acquire`."""
        with self._lock:
            server, users = self._users[host, port]
            if users > 1:
                self._users[host, port] = server, users - 1
                return
            del self._users[host, port]
            server.stop()

    def check(self, host: str, port: int, label: str) -> None:
        """Raises :class:`SinkError` where another process listens."""
        if not self.has(host, port):
            require_free(host, port, label)

    def has(self, host: str, port: int) -> bool:
        """Whether this process serves there already."""
        with self._lock:
            return (host, port) in self._users
