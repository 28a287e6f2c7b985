"""STUN and TURN servers of WebRTC, for this server and its viewers; which candidates of viewers are tried. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from fusepipe.pipeline.servers.addresses import is_loopback

MAX_CANDIDATES = 16  # of one offer: each is sent some small packets


@dataclass(frozen=True, slots=True)
class IceServer:
    """URLs of RFC 7064 and 7065, and the login of those with ``turn:`` or ``turns:``."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


def link_headers(servers: Iterable[IceServer]) -> list[str]:
    """The values of the ``Link`` headers with which WHEP tells its viewers the servers (draft-ietf-wish-whep, 4.6)."""
    lines = []
    for server in servers:
        login = ""
        if server.username is not None and server.credential is not None:
            login = f"; username={_quoted(server.username)}; credential={_quoted(server.credential)}"
            login += '; credential-type="password"'
        lines += [f'<{url}>; rel="ice-server"{login if url.startswith("turn") else ""}' for url in server.urls]
    return lines


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def usable_candidates(lines: Iterable[str], host: str) -> list[str]:
    """The ``a=candidate:`` lines of an offer that are tried, in order, at most :data:`MAX_CANDIDATES`.

    Those of UDP with an address: names are not resolved. ``host`` is the address at which the viewer reached this
    server: only viewers on this machine may name its loopback addresses.
    """
    found = dict.fromkeys(line for line in lines if _usable(line, loopback=is_loopback(host)))
    return list(found)[:MAX_CANDIDATES]


def _usable(line: str, *, loopback: bool) -> bool:
    """``a=candidate:FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE ...`` (RFC 8839, section 5.1)."""
    fields = line.split()
    if len(fields) < 8 or fields[6] != "typ" or fields[7] not in ("host", "srflx", "prflx", "relay"):
        return False
    _, component, transport, priority, address, port = fields[:6]
    numbers = [int(text) if text.isascii() and text.isdigit() and len(text) < 11 else -1 for text in (priority, port)]
    if component != "1" or transport.lower() != "udp" or numbers[0] < 0 or not 0 < numbers[1] < 65536:
        return False
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return False
    return loopback or not ip.is_loopback
