"""Reference-counted servers that several sinks share: the first sink on an address starts one, the last one stops it.

Ports are owned by the process, so the tables of these servers are process-wide; the pipeline has no other such state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from fusepipe.core.errors import SinkError
from fusepipe.pipeline.servers.addresses import check_port_free, listening_problem


class _Stoppable(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


S = TypeVar("S", bound=_Stoppable)
T = TypeVar("T")


class SharedServers(Generic[S]):
    """Running servers by (host, port); ``make`` constructs one that is not started."""

    def __init__(self, make: Callable[[str, int], S]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._users: dict[tuple[str, int], tuple[S, int]] = {}

    def attach(self, host: str, port: int, label: str, add: Callable[[S], T]) -> T:
        """Starts the server of an address if needed and returns ``add(server)``; :meth:`detach` is its counterpart.

        Raises :class:`SinkError` if the server cannot listen, and what ``add`` raises.
        """
        server = self._acquire(host, port, label)
        try:
            return add(server)
        except BaseException:
            self._release(host, port)
            raise

    def detach(self, host: str, port: int, remove: Callable[[S], None]) -> None:
        """Calls ``remove(server)`` and stops the server after its last user."""
        with self._lock:
            server, _ = self._users[host, port]
        try:
            remove(server)
        finally:
            self._release(host, port)

    def _acquire(self, host: str, port: int, label: str) -> S:
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

    def _release(self, host: str, port: int) -> None:
        with self._lock:
            server, users = self._users[host, port]
            if users > 1:
                self._users[host, port] = server, users - 1
                return
            del self._users[host, port]
            server.stop()

    def check(self, host: str, port: int, label: str) -> None:
        """Raises :class:`SinkError` if another process uses the port."""
        with self._lock:  # the check listens for a moment: two rigs that start must not see each other
            if (host, port) not in self._users:
                check_port_free(host, port, label)

    def has(self, host: str, port: int) -> bool:
        """Whether this process already serves on this address."""
        with self._lock:
            return (host, port) in self._users
