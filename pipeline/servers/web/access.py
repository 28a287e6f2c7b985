"""Access control of the preview page. Pure.

A page of another site must not reach a preview on this machine, neither by cross-origin requests nor by a host name of
its own that resolves to 127.0.0.1 (DNS rebinding). So the ``Host`` header has to be an address or a known name of this
server, and ``Origin``, if present, the same. A page that other machines can reach also needs users or a token.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fusepipe.pipeline.servers.web.users import PageUser, Role

# Who may use a route, where this is not :func:`default_role`; ``None``: anybody.
ROLES: dict[str, Role | None] = {
    "/healthz": None,  # for supervisors; they reveal nothing but the status
    "/readyz": None,
    "/login": None,
    "/style.css": None,
    "/login.css": None,
    "/logout": None,
    "/rigs/{rig}/whep": Role.VIEWER,  # POST and DELETE begin and end watching; they change nothing for others
    "/rigs/{rig}/whep/{session}": Role.VIEWER,
    "/rigs/{rig}/alignment": Role.OPERATOR,
    "/rigs/{rig}/alignment/save": Role.OPERATOR,
    "/metrics": Role.OPERATOR,  # of the installation, as what `record_for` keeps from viewers
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused: HTTP status and one line."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class PageAccess:
    """Who may use a page: those with the token (empty: none), the users, or everybody if there are neither.

    ``names`` are host names, besides the address, under which browsers may open it.
    """

    token: str = field(default="", repr=False)
    users: tuple[PageUser, ...] = ()
    names: frozenset[str] = frozenset()

    @property
    def protected(self) -> bool:
        return bool(self.token or self.users)

    def joined(self, other: PageAccess) -> PageAccess:
        """That of a page with a further rig. Raises ``ValueError`` where they differ in more than names."""
        if other.token != self.token:
            raise ValueError("the rigs on this page have different tokens; use one token")
        if other.users != self.users:
            raise ValueError("the rigs on this page have different users; write the same users, with the same hashes")
        return PageAccess(self.token, self.users, self.names | other.names)


def required_role(method: str, route: str | None) -> Role | None:
    """Who may use a route, given as its pattern: viewers may read, operators change; ``None``: anybody.

    ``None`` for ``route`` is a path without one.
    """
    if route in ROLES:
        return ROLES[route]
    return Role.VIEWER if method in ("GET", "HEAD", "OPTIONS") or route is None else Role.OPERATOR


class Access:
    """Checks requests. ``host`` is the address the server is bound to."""

    def __init__(self, host: str, port: int, settings: PageAccess) -> None:
        self._host = host
        self._token = settings.token
        self._names = {name.lower() for name in settings.names} | {"localhost"}
        self.cookie = f"fusepipe_{port}"  # browsers share cookies between the ports of a host

    def token_valid(self, token: str) -> bool:
        """Whether a token is valid; compared in constant time."""
        return bool(self._token) and hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token.encode())

    def target_refusal(self, target: str) -> Refusal | None:
        """Why a request target (RFC 9112, section 3.2) is refused: this server is no proxy for other hosts."""
        if target.startswith("/"):
            return None
        if target.lower().startswith(("http://", "https://")) and self._known_host(_host_of(target)):
            return None
        return Refusal(421, "not a path of this server")

    def refusal(self, headers: Mapping[str, str]) -> Refusal | None:
        """Why a request is refused whoever sends it; ``None`` if it is not. ``headers`` is case-insensitive."""
        host = headers.get("Host", "")
        if not self._known_host(_host_of(f"//{host}")):
            return Refusal(403, f"unknown host {host[:80]!r}; add it to the key hosts of the preview")
        origin = headers.get("Origin")
        if origin is not None and origin_host(origin) != host.lower():
            return Refusal(403, "cross-origin request")
        if headers.get("Sec-Fetch-Site") == "cross-site" and headers.get("Sec-Fetch-Mode") != "navigate":
            return Refusal(403, "cross-origin request")
        return None

    @staticmethod
    def form_refusal(headers: Mapping[str, str]) -> Refusal | None:
        """Why a form that :meth:`refusal` passes is refused: its page is not known to be of this server.

        Browsers send ``Origin`` or ``Sec-Fetch-Site`` with every form.
        """
        site = headers.get("Sec-Fetch-Site")
        if site == "same-origin" or (site is None and "Origin" in headers):
            return None
        return Refusal(403, "not from a page of this server; programs use the token")

    def _known_host(self, name: str) -> bool:
        if name in self._names or name == self._host.lower():
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # addresses cannot be rebound; a server bound to one address accepts only that one and loopback
        return address.is_loopback or self._host in ("0.0.0.0", "::")


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """The token of ``Authorization: Bearer``; ``None`` without one."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


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
