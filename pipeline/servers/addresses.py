"""Listening addresses of servers: URLs, and checks before a server starts."""

from __future__ import annotations

import errno
import ipaddress
import socket

from fusepipe.core.errors import SinkError

# An address of each family that is reserved for documentation (RFC 5737, RFC 3849): not on this machine's networks.
_WILDCARDS = (("0.0.0.0", socket.AF_INET, "192.0.2.1"), ("[::]", socket.AF_INET6, "2001:db8::1"))


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address) is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def url_host(host: str) -> str:
    """A host in URL syntax: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def every_address_note(urls: str) -> str:
    """What to open on other machines in place of 0.0.0.0 or [::] in ``urls``; empty without these, or off the network.

    The address is that of the route to other networks; finding it sends nothing.
    """
    for wildcard, family, elsewhere in _WILDCARDS:
        if f"//{wildcard}:" not in urls:
            continue
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((elsewhere, 9))
            except OSError:
                return ""
            own = url_host(str(probe.getsockname()[0]))
        return f"{wildcard} is every address of this machine; on other machines open {own} in its place"
    return ""


def listening_sockets(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Sockets that listen on every address of ``host``. Raises ``OSError``; ``socket.gaierror`` for an unknown host."""
    candidates = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(candidates):
            listening = socket.socket(family, kind, protocol)
            opened.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(backlog)
    except OSError:
        for listening in opened:
            listening.close()
        raise
    return opened


def check_port_free(host: str, port: int, what: str) -> None:
    """Raises :class:`SinkError` if it is not possible to listen now; ``what`` is the URL for the message."""
    try:
        for listening in listening_sockets(host, port, backlog=1):
            listening.close()
    except socket.gaierror as error:
        raise SinkError(f"{what}: {host!r} is not an address of this machine ({error.strerror})") from error
    except OSError as error:
        raise SinkError(listening_problem(what, port, error)) from error


def listening_problem(what: str, port: int, error: OSError) -> str:
    """Why a server cannot listen, and the fix, in one line."""
    if isinstance(error, PermissionError):
        return f"{what}: no permission to listen on port {port}; use a port above 1023"
    if error.errno == errno.EADDRINUSE:
        return f"{what}: port {port} is in use by another program; stop it or choose another port"
    return f"{what}: cannot listen: {error.strerror or error}"
