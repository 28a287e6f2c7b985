"""Password hashes: scrypt (RFC 7914) as one line of text, which does not reveal the password.

::

    $scrypt$ln=15,r=8,p=3$SALT$DIGEST

``ln`` is the binary logarithm of the cost N; salt and digest are base64 without padding. passlib reads and writes the
same form. The default cost is one of the OWASP Password Storage Cheat Sheet: 32 MiB, about a third of a second.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from dataclasses import dataclass, field

MIN_CHARACTERS, MAX_CHARACTERS = 8, 128
_SALT_BYTES, _DIGEST_BYTES = 16, 32
_MIN_MEMORY_BYTES, _MAX_MEMORY_BYTES = 1 << 24, 1 << 27  # less is weak; more would stop a small machine
_MAX_P = 16
_FORM = re.compile(
    r"\$scrypt\$ln=(?P<ln>\d{1,2}),r=(?P<r>\d{1,2}),p=(?P<p>\d{1,2})"
    r"\$(?P<salt>[A-Za-z0-9+/]{22,86})\$(?P<digest>[A-Za-z0-9+/]{43,86})"
)


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """The parameters of scrypt: N = 2^``ln``, block size ``r``, parallelisation ``p``."""

    ln: int = 15
    r: int = 8
    p: int = 3

    @property
    def memory_bytes(self) -> int:
        """128 r N, RFC 7914, section 2."""
        return 128 * self.r << self.ln


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """What is kept of a password: cost, salt and digest."""

    cost: ScryptCost
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Raises ``ValueError`` with the fix in its message, never with the text."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(
                "should be the line that 'fusepipe hash-password' prints, such as $scrypt$ln=15,r=8,p=3$..."
            )
        cost = ScryptCost(int(match["ln"]), int(match["r"]), int(match["p"]))
        if not (_MIN_MEMORY_BYTES <= cost.memory_bytes <= _MAX_MEMORY_BYTES and 1 <= cost.p <= _MAX_P):
            raise ValueError(
                f"has the cost ln={cost.ln},r={cost.r},p={cost.p}, which is too low or too high: make it with "
                "'fusepipe hash-password'"
            )
        return cls(cost, _decoded(match["salt"]), _decoded(match["digest"]))

    @classmethod
    def impossible(cls, cost: ScryptCost) -> PasswordHash:
        """A hash of no password, whose verification takes as long as that of another of this cost."""
        return cls(cost, secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_DIGEST_BYTES))

    def verify(self, password: str) -> bool:
        """Whether this is the password; takes the time of its cost, and compares in constant time."""
        return hmac.compare_digest(_digest(password, self.salt, self.cost, len(self.digest)), self.digest)

    def __str__(self) -> str:
        cost = f"ln={self.cost.ln},r={self.cost.r},p={self.cost.p}"
        return f"$scrypt${cost}${_encoded(self.salt)}${_encoded(self.digest)}"


def hash_password(password: str, cost: ScryptCost | None = None) -> PasswordHash:
    """The hash of a password, with a new random salt. Raises ``ValueError`` for a password that is not accepted."""
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise ValueError(
            f"a password needs {MIN_CHARACTERS} to {MAX_CHARACTERS} characters; this one has {len(password)}"
        )
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in password):
        raise ValueError("a password must not contain control characters, such as tabs")
    cost, salt = cost or ScryptCost(), secrets.token_bytes(_SALT_BYTES)
    return PasswordHash(cost, salt, _digest(password, salt, cost, _DIGEST_BYTES))


def _digest(password: str, salt: bytes, cost: ScryptCost, length: int) -> bytes:
    # keyboards compose "é" in several ways: RFC 8265, section 4.2.2
    data = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    room = 2 * cost.memory_bytes  # OpenSSL's own limit is below the default cost
    return hashlib.scrypt(data, salt=salt, n=1 << cost.ln, r=cost.r, p=cost.p, maxmem=room, dklen=length)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError("is damaged: copy the whole line that 'fusepipe hash-password' printed") from None
