"""Where a server listens: checks that come before it does."""

from __future__ import annotations

import errno
import ipaddress
import socket

from fusepipe.core.errors import SinkError


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server on ``host`` (a name or an address)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def url_host(host: str) -> str:
    """A host as URLs write it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def require_free(host: str, port: int, what: str) -> None:
    """Raises :class:`SinkError` where nothing could listen now; ``what`` is the URL for the message."""
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SinkError(f"{what}: {host!r} is no address of this machine ({error.strerror})") from error
    for family, kind, protocol, _, address in places:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
                probe.listen(1)
            except OSError as error:
                raise SinkError(listening_problem(what, port, error)) from error


def listening_problem(what: str, port: int, error: OSError) -> str:
    """One line about why a server cannot listen, with the fix."""
    if isinstance(error, PermissionError):
        return f"{what}: port {port} is reserved for the system; use one above 1023"
    if error.errno == errno.EADDRINUSE:
        return f"{what}: port {port} is used by another program; end that, or use another port"
    return f"{what}: cannot listen there: {error.strerror or error}"
