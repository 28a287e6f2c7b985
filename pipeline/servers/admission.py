"""Which connections a server accepts: limits per server and per peer, and descriptors kept for cameras and files.

Without the last, peers that open connections and send nothing use up the descriptors of the process: cameras cannot
reconnect and recordings cannot start their next segment.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections import Counter
from dataclasses import dataclass

RESERVE_SHARE = 4  # a quarter of the limit of descriptors is kept,
RESERVE_MIN = 64  # but at least as many as some rigs with segmented recordings need
PROXIES = ("127.0.0.1", "::1", "::ffff:127.0.0.1")  # a reverse proxy of this machine connects for all its viewers
_IPV6_SITE_BITS = 64  # one host usually has all addresses of such a network


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Maximum numbers of open connections of one server.

    A NAT or a proxy on another machine makes several clients one peer. :data:`PROXIES` are limited by ``total`` only.
    """

    total: int
    per_peer: int


class Admission:
    """Counts the open connections of one server by peer. Pure."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._peers: Counter[str] = Counter()

    def refusal(self, peer: str, spare_descriptors: int | None) -> str:
        """Why a new connection of ``peer`` is refused, empty if it is accepted.

        ``spare_descriptors`` may still be opened without touching the reserve; ``None`` without a limit.
        """
        if spare_descriptors is not None and spare_descriptors <= 0:
            return "too few file descriptors left; raise the limit (ulimit -n)"
        if self._peers.total() >= self._limits.total:
            return f"limit of {self._limits.total} connections reached"
        if peer not in PROXIES and self._peers[peer_group(peer)] >= self._limits.per_peer:
            return f"limit of {self._limits.per_peer} connections per client reached"
        return ""

    def enter(self, peer: str) -> None:
        self._peers[peer_group(peer)] += 1

    def leave(self, peer: str) -> None:
        group = peer_group(peer)
        self._peers[group] -= 1
        if self._peers[group] <= 0:
            del self._peers[group]


def peer_group(address: str) -> str:
    """What counts as one peer: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.IPv6Network((ip, _IPV6_SITE_BITS), strict=False))
    return str(ip)


def reserved_descriptors(limit: int) -> int:
    """How many of ``limit`` descriptors servers leave to cameras, recordings and the rest of the process."""
    return min(max(RESERVE_MIN, limit // RESERVE_SHARE), limit // 2)


def spare_descriptors() -> int | None:
    """How many descriptors servers may still open; ``None`` where the system does not tell the limit or the number."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return None
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            used = len(os.listdir(folder))  # noqa: PTH208 - names only, for each connection
        except FileNotFoundError:
            continue
        except OSError:  # no descriptor is left to read the folder with
            return 0
        return limit - reserved_descriptors(limit) - used
    return None
