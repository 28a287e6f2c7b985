"""Hides passwords and tokens in text that is shown: messages, logs, reports."""

from __future__ import annotations

import re

HIDDEN = "***"

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<rest>[^\s\"']*)")
_AUTHORITY_END = re.compile(r"[/?#]")
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:@]*)(:[0-9]*)?")
# Cameras take passwords as `?password=x`, and also inside the path: `/user=admin&password=x&channel=1`.
_SECRET_OPTION = re.compile(
    r"(?P<key>[A-Za-z0-9_-]*(?:pass|pwd|token|secret|key|auth|signature|credential)[A-Za-z0-9_-]*)=(?P<value>[^&#;\s\"']*)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text with the ``user:password`` of each URL and the values of secret options as ``***``.

    A password may contain ``@``, ``/``, ``?`` or ``#`` unescaped, which URL parsers split wrongly:
    in doubt, more is hidden rather than less.
    """
    hidden = _URL.sub(_hide_user, text)
    return _SECRET_OPTION.sub(lambda match: f"{match['key']}={HIDDEN}", hidden)


def _hide_user(match: re.Match[str]) -> str:
    rest = match["rest"]
    if "@" not in rest:
        return match[0]
    end = _AUTHORITY_END.search(rest)
    authority = rest[: end.start()] if end else rest
    if _HOST_AND_PORT.fullmatch(authority):
        return match[0]  # the '@' is part of the path or of an option
    return f"{match['scheme']}{HIDDEN}@{rest.rpartition('@')[2]}"
