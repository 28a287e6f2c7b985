"""URLs and paths of inputs and outputs in a rigs.yaml."""

from __future__ import annotations

import os
import re
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

LocationKind = Literal["path", "synthetic", "live"]

LIVE_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "srt", "udp")
SCHEMES = ("file", "synthetic", *LIVE_SCHEMES)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_STREAM = re.compile(r"(.+)\?stream=(\d{1,4})", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
# Those that give digits: independent of the locale and safe in a file name.
STRFTIME_DIRECTIVES = "YymdHMSj%"


def scheme_of(url: str) -> str:
    """The scheme in lower case, or ``""`` for a path."""
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def is_device(url: str) -> bool:
    """Whether an input is a V4L2 device; ``/dev/shm`` is a folder of files in memory."""
    return url.startswith("/dev/") and not url.startswith("/dev/shm/")


def input_kind(url: str) -> LocationKind:
    """Whether an input is a file or folder, a synthetic scene, or a live camera."""
    scheme = scheme_of(url)
    if scheme in LIVE_SCHEMES or is_device(url):
        return "live"
    return "synthetic" if scheme == "synthetic" else "path"


def check_text(value: str) -> str:
    """Rejects empty text and control characters (a newline in a variable): neither can be a URL or path."""
    if not value.strip():
        raise ValueError("is empty")
    if _CONTROL.search(value):
        raise ValueError("contains a control character, such as a line break")
    return value


def authority_problem(url: str) -> str:
    """Why FFmpeg cannot parse the host or port of a live URL, with the fix and without the URL; empty where it can."""
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    address = re.fullmatch(r"\[(?P<host>[^\]%]*)(?:%[^\]]*)?\](?P<port>.*)", authority)
    if address is None and ("[" in authority or "]" in authority or authority.count(":") > 1):
        return "has an invalid host: write an IPv6 address in brackets, such as [::1]:554"
    if address is not None:
        try:
            IPv6Address(address["host"])
        except ValueError:
            return "has no valid IPv6 address in its brackets, such as [::1]:554"
    port = address["port"] if address is not None else "".join(authority.partition(":")[1:])
    if port and (not re.fullmatch(r":(?:[0-9]{1,5})?", port) or int(port[1:] or 0) > 65535):
        return "has a port that is not a number from 1 to 65535 (in a password write @ as %40, / as %2F)"
    return ""


def resolve_path(written: str, base_dir: Path) -> str:
    """A path of a rig file as an absolute one: relative to ``base_dir``; ``~/`` is the home folder."""
    return os.path.normpath(base_dir.absolute() / os.path.expanduser(written))  # noqa: PTH111 - "~x" must not raise


def resolve_pattern(written: str, base_dir: Path) -> str:
    """As :func:`resolve_path` for a ``strftime`` pattern: a ``%`` in ``base_dir`` is taken literally."""
    return resolve_path(written, Path(str(base_dir.absolute()).replace("%", "%%")))


def resolve_url(written: str, base_dir: Path) -> str:
    """A local path or ``file://`` URL as an absolute path; any other URL unchanged."""
    scheme = scheme_of(written)
    if scheme == "file":
        parts = urlsplit(written)
        query = f"?{parts.query}" if parts.query else ""
        return os.path.normpath(unquote(parts.path)) + query
    return written if scheme else resolve_path(written, base_dir)


def split_stream(path: str | Path) -> tuple[Path, int | None]:
    """The file of ``video.mkv?stream=1``, and the index of the stream; ``None`` where none is given.

    A file of that very name is taken as it is.
    """
    match = _STREAM.fullmatch(str(path))
    if match is None or Path(path).exists():
        return Path(path), None
    return Path(match[1]), int(match[2])


def check_strftime(pattern: str) -> str:
    """Rejects ``%`` directives of a file name that are unknown or depend on the locale."""
    for match in _DIRECTIVE.finditer(pattern):
        if not match[1] or match[1] not in STRFTIME_DIRECTIVES:
            raise ValueError(
                f"has the unknown time pattern {match[0]!r}; known: "
                f"{' '.join('%' + letter for letter in STRFTIME_DIRECTIVES)} (%% is a percent sign)"
            )
    return pattern
