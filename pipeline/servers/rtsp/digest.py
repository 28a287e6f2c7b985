"""Digest authentication (RFC 2617), server and client side. Pure, apart from the random nonce.

RTSP players support MD5 without ``qop`` (RFC 2069), so this is what the server offers: the password is never sent in
clear text. The nonce is random and valid for one connection, so a response cannot be replayed on another one. The video
is not encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

REALM = "fusepipe"
_FIELD = re.compile(r'([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True, slots=True)
class Credentials:
    """User name and password; the password is excluded from ``repr``."""

    user: str
    password: str = field(repr=False)


def _md5(text: str) -> str:
    # required by the protocol: players support no other hash
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def fields_of(header: str) -> dict[str, str] | None:
    """The fields of a ``Digest`` challenge or response, names in lower case; ``None`` for another scheme."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "digest":
        return None
    found: dict[str, str] = {}
    for match in _FIELD.finditer(rest):
        quoted, plain = match[2], match[3]
        found.setdefault(match[1].lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain)
    return found


def response(credentials: Credentials, realm: str, nonce: str, method: str, uri: str) -> str:
    """RFC 2617, 3.2.2.1 without qop: ``MD5(MD5(user:realm:password):nonce:MD5(method:uri))``."""
    secret = _md5(f"{credentials.user}:{realm}:{credentials.password}")
    return _md5(f"{secret}:{nonce}:{_md5(f'{method}:{uri}')}")


class Guard:
    """The server side, one for each connection; without ``credentials`` everyone is admitted."""

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._nonce = secrets.token_hex(16)
        self.failures = 0

    @property
    def challenge(self) -> str:
        """The value of ``WWW-Authenticate``."""
        return f'Digest realm="{REALM}", nonce="{self._nonce}"'

    def admits(self, method: str, uri: str, authorization: str | None) -> bool:
        """Whether a request is authorised. Failed logins are counted; a first request without one is normal."""
        if self._credentials is None:
            return True
        if authorization is None:
            return False
        if self._valid(method, uri, fields_of(authorization) or {}):
            return True
        self.failures += 1
        return False

    def _valid(self, method: str, uri: str, given: dict[str, str]) -> bool:
        assert self._credentials is not None
        # some players sign the path, others the full URL; either has to be that of this request
        signed = given.get("uri", "")
        if signed != uri and not (signed.startswith("/") and uri.endswith(signed)):
            return False
        expected = response(self._credentials, REALM, self._nonce, method, signed)
        matches = [
            hmac.compare_digest(given.get("username", "").encode(), self._credentials.user.encode()),
            hmac.compare_digest(given.get("nonce", "").encode(), self._nonce.encode()),
            hmac.compare_digest(given.get("response", "").lower().encode(), expected.encode()),
        ]
        return all(matches)


def answer(credentials: Credentials, challenge: str, method: str, uri: str) -> str | None:
    """The client's ``Authorization`` header for a server's challenge; ``None`` for an unsupported one."""
    given = fields_of(challenge)
    if given is None or given.get("algorithm", "MD5").upper() != "MD5" or "nonce" not in given:
        return None
    realm, nonce = given.get("realm", ""), given["nonce"]
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in (credentials.user, realm, nonce)]
    names = dict(zip(("username", "realm", "nonce"), quoted, strict=True))
    names |= {"uri": uri, "response": response(credentials, realm, nonce, method, uri)}
    return "Digest " + ", ".join(f'{name}="{value}"' for name, value in names.items())
