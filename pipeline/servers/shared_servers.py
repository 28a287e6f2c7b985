"""Reference-counted servers that several sinks share: the first sink on an address starts one, the last one stops it.

Ports are owned by the process, so the tables of these servers are process-wide; the pipeline has no other such state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from fusepipe.core.errors import SinkError, SinkSetupError
from fusepipe.pipeline.servers.addresses import check_port_free, listening_problem
from fusepipe.pipeline.servers.certificate import CertificateFiles
from fusepipe.pipeline.servers.tls import ServerTls


class _Stoppable(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


S = TypeVar("S", bound=_Stoppable)
T = TypeVar("T")


@dataclass
class _Shared(Generic[S]):
    server: S
    files: CertificateFiles | None
    users: int = 0


class SharedServers(Generic[S]):
    """Running servers by (host, port); ``make`` constructs one that is not started."""

    def __init__(self, make: Callable[[str, int, ServerTls | None], S]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._shared: dict[tuple[str, int], _Shared[S]] = {}

    def attach(
        self, host: str, port: int, label: str, add: Callable[[S], T], files: CertificateFiles | None = None
    ) -> T:
        """Starts the server of an address if needed and returns ``add(server)``; :meth:`detach` is its counterpart.

        With ``files`` it is a TLS server. Raises :class:`SinkError` if the server cannot listen,
        :class:`SinkSetupError` for a certificate that cannot be used or is not that of the running server, and what
        ``add`` raises.
        """
        server = self._acquire(host, port, label, files)
        try:
            return add(server)
        except BaseException:
            self._release(host, port)
            raise

    def detach(self, host: str, port: int, remove: Callable[[S], None]) -> None:
        """Calls ``remove(server)`` and stops the server after its last user."""
        with self._lock:
            server = self._shared[host, port].server
        try:
            remove(server)
        finally:
            self._release(host, port)

    def _acquire(self, host: str, port: int, label: str, files: CertificateFiles | None) -> S:
        with self._lock:
            shared = self._shared.get((host, port))
            if shared is None:
                shared = _Shared(self._make(host, port, None if files is None else ServerTls(files)), files)
                try:
                    shared.server.start()
                except OSError as error:
                    raise SinkError(listening_problem(label, port, error)) from error
                self._shared[host, port] = shared
            elif shared.files != files:
                used = "without TLS" if shared.files is None else f"with the certificate {shared.files.certificate}"
                raise SinkSetupError(f"{label}: port {port} is served {used} already: use the same, or another port")
            shared.users += 1
            return shared.server

    def _release(self, host: str, port: int) -> None:
        with self._lock:
            shared = self._shared[host, port]
            shared.users -= 1
            if not shared.users:
                del self._shared[host, port]
                shared.server.stop()

    def check(self, host: str, port: int, label: str) -> None:
        """Raises :class:`SinkError` if another process uses the port."""
        with self._lock:  # the check listens for a moment: two rigs that start must not see each other
            if (host, port) not in self._shared:
                check_port_free(host, port, label)

    def has(self, host: str, port: int) -> bool:
        """Whether this process already serves on this address."""
        with self._lock:
            return (host, port) in self._shared
