"""Who may ask for what. Pure.

A page on another site must not reach a preview on this machine: neither by asking across origins, nor by a
name of its own that it lets resolve to 127.0.0.1 (DNS rebinding). So the ``Host`` header has to be an
address or a name known to be ours, and ``Origin``, where there is one, the same. Where other machines
reach the page, a token is needed besides.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

OPEN_PATHS = frozenset({"/healthz", "/readyz"})  # for supervisors; they tell nothing but yes or no


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP status and one line."""

    status: int
    reason: str


class Access:
    """``host`` is what the server is bound to; ``token`` is needed unless it is empty."""

    def __init__(self, host: str, port: int, *, token: str = "", names: Collection[str] = ()) -> None:
        self._token = token
        self._host = host
        self._names = {name.lower() for name in names} | {"localhost"}
        self.cookie = f"fusepipe_{port}"  # browsers share cookies between the ports of a host

    def right(self, token: str | None) -> bool:
        """Whether a token is the one that is needed; compared in constant time."""
        return not self._token or hmac.compare_digest((token or "").encode(), self._token.encode())

    def refusal(self, path: str, headers: Mapping[str, str], cookie: str | None) -> Refusal | None:
        """``None`` for a request that may pass; ``headers`` is case-insensitive."""
        host = headers.get("Host", "")
        if not self._ours(_name_of(f"//{host}")):
            return Refusal(403, f"this page is not served as {host[:80]!r}; add the name under the key hosts")
        origin = headers.get("Origin")
        if origin is not None and origin_host(origin) != host.lower():
            return Refusal(403, "asked from another site")
        if headers.get("Sec-Fetch-Site") == "cross-site" and headers.get("Sec-Fetch-Mode") != "navigate":
            return Refusal(403, "asked from another site")
        if path in OPEN_PATHS:
            return None
        scheme, _, bearer = headers.get("Authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else cookie
        if not self.right(given):
            return Refusal(401, "needs the token: open the address that fusepipe printed, with ?token=...")
        return None

    def _ours(self, name: str) -> bool:
        if name in self._names or name == self._host.lower():
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # An address cannot be rebound; on a server for one address only that one and loopback make sense.
        return address.is_loopback or self._host in ("0.0.0.0", "::")


def _name_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def origin_host(origin: str) -> str | None:
    """``host:port`` of an origin, lower case; ``None`` for what is none (``null``)."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None
