"""Digest authentication (RFC 2617), both sides. Pure, apart from the random nonce.

What RTSP players know is MD5 without ``qop`` (RFC 2069), so that is what is asked for: it keeps the password
off the wire. The nonce is random and belongs to one connection, so an answer cannot be replayed on another.
It does not encrypt the video.
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
    """A user's name and password; the password is in no ``repr``."""

    user: str
    password: str = field(repr=False)


def _md5(text: str) -> str:
    # The protocol's hash, not a choice: players know no other.
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def fields_of(header: str) -> dict[str, str] | None:
    """The fields of a ``Digest`` challenge or answer, names in lower case; ``None`` for another scheme."""
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
    """The server's side, one for a connection."""

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._nonce = secrets.token_hex(16)
        self.failures = 0

    @property
    def challenge(self) -> str:
        """The value of ``WWW-Authenticate``."""
        return f'Digest realm="{REALM}", nonce="{self._nonce}"'

    def admits(self, method: str, uri: str, authorization: str | None) -> bool:
        """Whether a request may pass. Wrong answers are counted; no answer is the normal first request."""
        if self._credentials is None:
            return True
        if authorization is None:
            return False
        if self._right(method, uri, fields_of(authorization) or {}):
            return True
        self.failures += 1
        return False

    def _right(self, method: str, uri: str, given: dict[str, str]) -> bool:
        assert self._credentials is not None
        # Some players sign the path and others the whole URL; it must be this request's all the same.
        signed = given.get("uri", "")
        if signed != uri and not (signed.startswith("/") and uri.endswith(signed)):
            return False
        expected = response(self._credentials, REALM, self._nonce, method, signed)
        right = [
            hmac.compare_digest(given.get("username", "").encode(), self._credentials.user.encode()),
            hmac.compare_digest(given.get("nonce", "").encode(), self._nonce.encode()),
            hmac.compare_digest(given.get("response", "").lower().encode(), expected.encode()),
        ]
        return all(right)


def answer(credentials: Credentials, challenge: str, method: str, uri: str) -> str | None:
    """The client's ``Authorization`` for a server's challenge; ``None`` where it asks for what is not spoken.

    Names and passwords go only into the hash, ``user`` also into the header: it must hold no quotation mark.
    """
    given = fields_of(challenge)
    if given is None or given.get("algorithm", "MD5").upper() != "MD5" or "nonce" not in given:
        return None
    realm, nonce = given.get("realm", ""), given["nonce"]
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in (credentials.user, realm, nonce)]
    names = dict(zip(("username", "realm", "nonce"), quoted, strict=True))
    names |= {"uri": uri, "response": response(credentials, realm, nonce, method, uri)}
    return "Digest " + ", ".join(f'{name}="{value}"' for name, value in names.items())
