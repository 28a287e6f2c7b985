"""Hides passwords and tokens in text that is shown: messages, logs, reports.

:func:`redact_url` hides those of a value that is known to be one URL, whatever characters they have. :func:`redact`
looks for URLs inside of text. :func:`hide_known` replaces the secrets of all URLs that this process was given
(:func:`remember`), also where a library shows only a part of one.
"""

from __future__ import annotations

import ipaddress
import re
import threading
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
MIN_SECRET = 4  # characters; shorter parts of a secret would hide ordinary text
MAX_KNOWN = 4096

_SCHEME = r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)"
_URL = re.compile(rf"{_SCHEME}(?P<rest>[^\s\"']*)")
_WHOLE_URL = re.compile(rf"\s*{_SCHEME}(?P<rest>.*)", re.DOTALL)
# `rtsp//admin:x@h`, `rtsp ://admin:x@h`, `rtsp+push:admin:x@h`, `rtsp:/x@h`: misspelt URLs have passwords too
_ALMOST_URL = re.compile(
    r"\s*(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*(?:[\s/+]*(?::|//)[\s:/+]*|[\s/+]+(?=[^\s:/@]*:)))(?P<rest>.*@.*)", re.DOTALL
)
_FLAG = re.compile(r"--?[A-Za-z][A-Za-z-]*=")
_AUTHORITY_END = re.compile(r"[/?#]")
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:@\s\"']*)(:[0-9]*)?")
# Cameras take passwords as `?password=x`, and also inside the path: `/user=admin&password=x&channel=1`.
# Signed addresses of storage have theirs as `sig=`, with `sas=` and `jwt=` for the whole of one.
_WORDS = "pass|pwd|psw|token|secret|key|auth|signature|credential"
_KEY = rf"(?P<key>[A-Za-z0-9_-]*(?:(?:{_WORDS})[A-Za-z0-9_-]*|pw|pas|sig|sas|jwt))"
# An unescaped '&' or ';' is part of the value unless the next option follows it.
_IN_VALUE = r"(?![&;][A-Za-z0-9_.-]+=)"
_SECRET_OPTION = re.compile(rf"{_KEY}=(?P<value>(?:{_IN_VALUE}[^#\s\"'])*)", re.IGNORECASE)
_WHOLE_SECRET_OPTION = re.compile(rf"{_KEY}=(?P<value>(?:{_IN_VALUE}.)*)", re.IGNORECASE | re.DOTALL)
# In text, a space ends a URL; not so in a password, which what follows the user's name is unless it is a port.
_SPACED = re.compile(rf"{_SCHEME}[^\s/?#@:\[]*:(?![0-9]*(?:[/?#\s\"']|,\s|$))[^@\n]*@(?=[^\s@]*(?:\s|$))")
# `/a@b` is a path, `/abc@10.0.0.8/x` and `?abc@host:554` are the end of a password with a slash
_HOST_BEHIND = re.compile(
    r"(\[[^\]]*\]|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+)([:/?].*)?|[A-Za-z0-9_-]+(:[0-9]+|/).*", re.DOTALL
)
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")  # of a rig file: its name is to be shown where it is not set
_SEPARATORS = re.compile(r"[/?#:@&=;%+\s\"'\\<>()\[\]{},|]+")

WORD_SECRET = 8  # characters; shorter secrets and all parts of one are hidden as words only, not inside of words

_lock = threading.Lock()
_known: set[str] = set()
_known_words: set[str] = set()


def redact(text: str) -> str:
    """The text with the ``user:password`` of each URL and the values of secret options as ``***``.

    A password may contain ``@``, ``/``, ``?`` or ``#`` unescaped, which URL parsers split wrongly:
    in doubt, more is hidden rather than less.
    """
    hidden = _URL.sub(_hide_user, _SPACED.sub(lambda match: f"{match['scheme']}{HIDDEN}@", text))
    return _SECRET_OPTION.sub(lambda match: f"{match['key']}={HIDDEN}", hidden)


def redact_url(value: str) -> str:
    """As :func:`redact` for a value that is one URL or path: spaces and quotes are part of its password."""
    match = _WHOLE_URL.fullmatch(value)
    if match is None:
        almost = _ALMOST_URL.fullmatch(value)
        return redact(f"{almost['scheme']}{HIDDEN}@{almost['rest'].rpartition('@')[2]}" if almost else value)
    return _WHOLE_SECRET_OPTION.sub(lambda found: f"{found['key']}={HIDDEN}", _hide_user(match))


def _hide_user(match: re.Match[str]) -> str:
    user = _user(match["rest"])
    return match[0] if user is None else f"{match['scheme']}{HIDDEN}@{match['rest'][len(user) + 1 :]}"


def _user(rest: str) -> str | None:
    """The user and password of a URL without its scheme; ``None`` without."""
    if "@" not in rest:
        return None
    end = _AUTHORITY_END.search(rest)
    authority = rest[: end.start()] if end else rest
    before, _, behind = rest.rpartition("@")
    another_host = "#" in before or _HOST_BEHIND.fullmatch(behind)
    if end is not None and _HOST_AND_PORT.fullmatch(authority) and (_is_address(authority) or not another_host):
        return None  # the '@' is part of the path or of an option
    return before


def _is_address(authority: str) -> bool:
    """Whether a host and port is certainly not a user and password: it is an IP address."""
    host = authority.rpartition(":")[0] or authority
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def unescaped_problem(url: str) -> str:
    """Why the password of a live URL cannot be read, with the fix and without the URL; empty where it can.

    URL parsers end the host at the first ``/``, ``?`` or ``#``, so one in a password hides the host.
    """
    match = _WHOLE_URL.fullmatch(url)
    user = _user(match["rest"]) if match else None
    if match is None or user is None:
        return ""
    authority = _AUTHORITY_END.split(match["rest"], maxsplit=1)[0]
    if "#" not in user and ("@" in authority or _HOST_AND_PORT.fullmatch(authority)):
        return ""
    codes = {"#": "%23", "/": "%2F", "?": "%3F"}
    found = list(dict.fromkeys(_AUTHORITY_END.findall(user)))
    fixes = ", ".join(f"{character} as {codes[character]}" for character in found)
    return f"has a user or password with {' and '.join(found)} in it: write {fixes}"


# -- secrets of this process


def remember(*values: str) -> None:
    """Adds the secrets of URLs to those that :func:`hide_known` hides; other text is ignored."""
    secrets = [secret for value in values for secret in _secrets(_FLAG.sub("", value, count=1))]
    whole = {form for secret in secrets for form in _forms(secret)}
    parts = {part for form in whole for part in _SEPARATORS.split(form)}
    with _lock:
        if len(_known) + len(_known_words) < MAX_KNOWN:
            _known.update(form for form in whole if len(form) >= WORD_SECRET)
            _known_words.update(part for part in whole | parts if len(part) >= MIN_SECRET and part != HIDDEN)


def remember_secret(value: str) -> None:
    """As :func:`remember` for a value that is a secret as a whole."""
    if len(value) < MIN_SECRET:
        return
    with _lock:
        if len(_known) + len(_known_words) < MAX_KNOWN:
            (_known if len(value) >= WORD_SECRET else _known_words).update(_forms(value))


def forget_known() -> None:
    """Forgets all secrets, for a process that runs several commands."""
    with _lock:
        _known.clear()
        _known_words.clear()


def _secrets(url: str) -> list[str]:
    if match := _WHOLE_URL.fullmatch(url):
        user = _user(match["rest"]) or ""
    elif match := _ALMOST_URL.fullmatch(url):
        user = match["rest"].rpartition("@")[0]
    else:
        return []
    name, colon, password = user.partition(":")
    secrets = [password if colon else name]
    secrets += [found["value"] for found in _WHOLE_SECRET_OPTION.finditer(match["rest"].removeprefix(user))]
    return [secret for secret in secrets if not _VARIABLE.fullmatch(secret)]


def _forms(secret: str) -> set[str]:
    """How a library may show a whole secret: as it is, decoded or encoded."""
    forms = {secret, unquote(secret)}
    return forms | {written for form in forms for written in (quote(form, safe=""), quote(form), quote_plus(form))}


def hide_known(text: str) -> str:
    """The text with every remembered secret as ``***``, and URLs redacted."""
    with _lock:
        known = sorted((secret for secret in _known if secret in text), key=len, reverse=True)
        words = sorted((secret for secret in _known_words if secret in text), key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, HIDDEN)
    for word in words:
        text = re.sub(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", HIDDEN, text)
    return redact(text)


def hide_in(document: Any) -> Any:
    """A document of plain values with :func:`hide_known` applied to all of its text, but the keys."""
    if isinstance(document, str):
        return hide_known(document)
    if isinstance(document, dict):
        return {key: hide_in(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [hide_in(value) for value in document]
    return document
