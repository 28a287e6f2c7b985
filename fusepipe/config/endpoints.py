"""Parses the URLs of live outputs: the address to listen on or push to, and the credentials."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from fusepipe.config.locations import check_text
from fusepipe.core.redact import unescaped_problem

PUSH = "rtsp+push"
_PATH = re.compile(r"[A-Za-z0-9_.~-]+(/[A-Za-z0-9_.~-]+)*")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed URL: ``host`` without brackets, ``path`` without outer slashes, ``user`` empty without credentials.

    ``tls``: of a server, whether its URL is ``https://`` or ``rtsps://``.
    """

    host: str
    port: int
    path: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    push: bool = False
    tls: bool = False


def parse_rtsp(url: str) -> Endpoint:
    """``rtsp://[USER:PASSWORD@]HOST:PORT/NAME`` or ``rtsps://…`` to serve, or ``rtsp+push://…`` to push.

    Raises ``ValueError`` with the fix in its message, never the URL: it may hold a password.
    """
    parts = _split(url, ("rtsp", "rtsps", PUSH), "rtsp://127.0.0.1:8554/roof, or rtsp+push://host/roof to push")
    push = parts.scheme == PUSH
    port = _port(parts) or (554 if push else 0)
    if not port:
        raise ValueError("needs the port to serve on, such as rtsp://127.0.0.1:8554/roof")
    path = parts.path.strip("/")
    if parts.fragment or (parts.query and not push):
        raise ValueError("must end with the stream name, without ? or # (in a password write %3F and %23)")
    if not push and not _PATH.fullmatch(path):
        raise ValueError("needs a name of letters, digits, '-', '_', '.' and '~', such as rtsp://127.0.0.1:8554/roof")
    if push and (not path or not all(33 <= ord(c) < 127 for c in parts.path + parts.query)):
        raise ValueError("needs the path to push to, such as rtsp+push://host/roof")
    path = f"{path}?{parts.query}" if parts.query else path
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(user) != bool(password) or '"' in user:
        raise ValueError("needs a user and a password, as in rtsp://USER:PASSWORD@HOST:8554/roof, or neither")
    return Endpoint(_host(parts), port, path, user, password, push, parts.scheme == "rtsps")


def parse_preview(url: str) -> Endpoint:
    """``http://HOST:PORT`` or ``https://HOST:PORT``. Raises ``ValueError`` with the fix in its message."""
    example = "http://127.0.0.1:8080"
    parts = _split(url, ("http", "https"), example)
    port = _port(parts)
    if not port:
        raise ValueError(f"needs the port to serve on, such as {example}")
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"should be only an address and a port, such as {example}; set the token with the key token")
    return Endpoint(_host(parts), port, tls=parts.scheme == "https")


def tls_problem(endpoint: Endpoint, certificate: str | None, key: str | None) -> str:
    """Why a server's URL and its keys ``certificate`` and ``key`` do not fit, with the fix; empty where they do."""
    if endpoint.push and (certificate or key):
        return "certificate and key are for a stream that is served here: remove them"
    if endpoint.tls and certificate is None:
        return "an encrypted server needs a certificate: add certificate and key, or write http:// or rtsp://"
    if not endpoint.tls and (certificate or key):
        return "a certificate is for an encrypted server: write https:// or rtsps://, or remove certificate and key"
    return ""


def _split(url: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    if problem := unescaped_problem(url):
        raise ValueError(problem)
    try:
        parts = urlsplit(check_text(url))
    except ValueError as error:
        text = str(error)
        raise ValueError(
            text if text.startswith(("is ", "contains ")) else f"is not a URL such as {example}"
        ) from error
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError(f"should be a URL such as {example}")
    return parts


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError as error:
        raise ValueError(
            "has a port that is not a number from 1 to 65535 (in a password write @ as %40, / as %2F)"
        ) from error


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise ValueError("needs a host: an address or a name, such as 127.0.0.1") from None
        return host
