"""Access control of the preview page. Pure.

A page of another site must not reach a preview on this machine, neither by cross-origin requests nor by a host name of
its own that resolves to 127.0.0.1 (DNS rebinding). So the ``Host`` header has to be an address or a known name of this
server, and ``Origin``, if present, the same. A page that other machines can reach also needs a token.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

OPEN_PATHS = frozenset({"/healthz", "/readyz"})  # for supervisors; they reveal nothing but the status


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused: HTTP status and one line."""

    status: int
    reason: str


class Access:
    """Checks requests. ``host`` is the address the server is bound to; an empty ``token`` requires none."""

    def __init__(self, host: str, port: int, *, token: str = "", names: Collection[str] = ()) -> None:
        self._token = token
        self._host = host
        self._names = {name.lower() for name in names} | {"localhost"}
        self.cookie = f"fusepipe_{port}"  # browsers share cookies between the ports of a host

    def token_valid(self, token: str | None) -> bool:
        """Whether a token is valid; compared in constant time."""
        return not self._token or hmac.compare_digest((token or "").encode(), self._token.encode())

    def target_refusal(self, target: str) -> Refusal | None:
        """Why a request target (RFC 9112, section 3.2) is refused: this server is no proxy for other hosts."""
        if target.startswith("/"):
            return None
        if target.lower().startswith(("http://", "https://")) and self._known_host(_host_of(target)):
            return None
        return Refusal(421, "not a path of this server")

    def refusal(self, path: str, headers: Mapping[str, str], cookie: str | None) -> Refusal | None:
        """Why a request is refused; ``None`` if it is allowed. ``headers`` is case-insensitive."""
        host = headers.get("Host", "")
        if not self._known_host(_host_of(f"//{host}")):
            return Refusal(403, f"unknown host {host[:80]!r}; add it to the key hosts of the preview")
        origin = headers.get("Origin")
        if origin is not None and origin_host(origin) != host.lower():
            return Refusal(403, "cross-origin request")
        if headers.get("Sec-Fetch-Site") == "cross-site" and headers.get("Sec-Fetch-Mode") != "navigate":
            return Refusal(403, "cross-origin request")
        if path in OPEN_PATHS:
            return None
        scheme, _, bearer = headers.get("Authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else cookie
        if not self.token_valid(given):
            return Refusal(401, "token required: open the URL that fusepipe printed, with ?token=...")
        return None

    def _known_host(self, name: str) -> bool:
        if name in self._names or name == self._host.lower():
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # addresses cannot be rebound; a server bound to one address accepts only that one and loopback
        return address.is_loopback or self._host in ("0.0.0.0", "::")


def _host_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def origin_host(origin: str) -> str | None:
    """``host:port`` of an origin in lower case; ``None`` for an opaque one (``null``)."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None
