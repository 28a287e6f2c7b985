"""RTSP 1.0 messages (RFC 2326): an incremental parser with limits, and the text of requests and responses.

One TCP connection carries messages and, framed by ``$``, interleaved RTP and RTCP packets (section 10.12).
Pure: bytes in, objects out. Whatever is received, the parser buffers at most ``MessageLimits.held_bytes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

VERSION = "RTSP/1.0"
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    431: "Request Header Fields Too Large",
    453: "Not Enough Bandwidth",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    459: "Aggregate Operation Not Allowed",
    461: "Unsupported Transport",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "RTSP Version Not Supported",
    551: "Option not supported",
}
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class ProtocolError(Exception):
    """Invalid data from the peer; ``status`` is the response before the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """Limits on what a peer may send."""

    line_bytes: int = 4096
    headers: int = 64
    head_bytes: int = 16_384  # start line and headers together
    body_bytes: int = 16_384

    @property
    def held_bytes(self) -> int:
        """The max size of the parser's buffer between two calls."""
        return max(self.head_bytes + self.body_bytes, 4 + 0xFFFF) + 4


@dataclass(frozen=True, slots=True)
class Request:
    """``headers`` has lower-case names; values of repeated headers are joined by a comma."""

    method: str
    uri: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    version: str = VERSION

    def encode(self) -> bytes:
        return _encode(f"{self.method} {self.uri} {self.version}", self.headers, self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """A response; names of ``headers`` are written as given; from the parser they are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encode(self) -> bytes:
        reason = REASONS.get(self.status, "Unknown")
        return _encode(f"{VERSION} {self.status} {reason}", self.headers, self.body)


@dataclass(frozen=True, slots=True)
class Interleaved:
    """One RTP or RTCP packet on the control connection."""

    channel: int
    data: bytes

    def encode(self) -> bytes:
        return interleaved(self.channel, self.data)


def interleaved(channel: int, packet: bytes) -> bytes:
    """A packet of at most 65,535 bytes with its four-byte frame header."""
    return b"$" + bytes((channel,)) + len(packet).to_bytes(2, "big") + packet


class Parser:
    """An incremental parser: bytes in, complete messages out. Not usable after :class:`ProtocolError`."""

    def __init__(self, limits: MessageLimits | None = None) -> None:
        self._limits = limits or MessageLimits()
        self._data = bytearray()
        self._scanned = 0  # how far the data has been searched for the end of the headers

    @property
    def held_bytes(self) -> int:
        return len(self._data)

    @property
    def in_message(self) -> bool:
        """Whether an incomplete message is buffered."""
        return bool(self._data)

    def feed(self, data: bytes) -> list[Request | Response | Interleaved]:
        """The messages completed by ``data``. Raises :class:`ProtocolError`."""
        found: list[Request | Response | Interleaved] = []
        # in chunks: the buffer stays bounded however large ``data`` is
        for start in range(0, len(data), 0x4000):
            self._data += data[start : start + 0x4000]
            while (message := self._next()) is not None:
                found.append(message)
        return found

    def _next(self) -> Request | Response | Interleaved | None:
        data = self._data
        while data and data[0] in b"\r\n":  # empty lines between messages are allowed
            del data[:1]
            self._scanned = 0
        if not data:
            return None
        if data[0] == 0x24:  # $
            if len(data) < 4 or len(data) < 4 + (length := int.from_bytes(data[2:4], "big")):
                return None
            packet = Interleaved(data[1], bytes(data[4 : 4 + length]))
            del data[: 4 + length]
            return packet
        head_end = self._find_head_end()
        if head_end is None:
            return None
        start_line, headers = _parse_head(bytes(data[:head_end]), self._limits)
        length = _content_length(headers, self._limits)
        if len(data) < head_end + length:
            return None
        body = bytes(data[head_end : head_end + length])
        del data[: head_end + length]
        self._scanned = 0
        return _message(start_line, headers, body)

    def _find_head_end(self) -> int | None:
        data, limits = self._data, self._limits
        longest = limits.line_bytes + len(b"\r\n")
        if len(data) >= longest and b"\n" not in data[:longest]:  # before anything else: pieces give the same answer
            raise ProtocolError(414, f"the first line has more than {limits.line_bytes} bytes")
        ends = [at + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (at := data.find(mark, self._scanned)) >= 0]
        if ends:
            if (end := min(ends)) > limits.head_bytes:
                raise ProtocolError(431, f"the headers have more than {limits.head_bytes} bytes")
            return end
        self._scanned = max(0, len(data) - 3)
        if len(data) > limits.head_bytes:
            raise ProtocolError(431, f"the headers have more than {limits.head_bytes} bytes")
        return None


def _parse_head(head: bytes, limits: MessageLimits) -> tuple[str, dict[str, str]]:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError(400, "the headers are not UTF-8") from error
    # not splitlines: it also splits at characters that do not end a line here
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if any(len(line) > limits.line_bytes for line in lines):
        raise ProtocolError(431, f"a line has more than {limits.line_bytes} characters")
    if len(lines) - 3 > limits.headers:
        raise ProtocolError(431, f"there are more than {limits.headers} headers")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        if not line:
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or not name or not set(name) <= _TOKEN:
            raise ProtocolError(400, "a header is not NAME: VALUE")
        if any(not c.isprintable() and c != "\t" for c in value):
            raise ProtocolError(400, "a header has a control character")
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return lines[0], headers


def _content_length(headers: Mapping[str, str], limits: MessageLimits) -> int:
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ProtocolError(400, "Content-Length is not a number")
    if (length := int(text)) > limits.body_bytes:
        raise ProtocolError(413, f"the body has more than {limits.body_bytes} bytes")
    return length


def _message(start_line: str, headers: dict[str, str], body: bytes) -> Request | Response:
    words = start_line.split(" ")
    if words[0].startswith("RTSP/"):
        if len(words) < 2 or not (words[1].isascii() and words[1].isdigit() and len(words[1]) == 3):
            raise ProtocolError(400, "the status line is not RTSP/1.0 STATUS REASON")
        return Response(int(words[1]), headers, body)
    if len(words) != 3 or not all(words) or not set(words[0]) <= _TOKEN or not words[1].isprintable():
        raise ProtocolError(400, "the request line is not METHOD URI RTSP/1.0")
    method, uri, version = words
    if version != VERSION:
        status = 505 if version.startswith("RTSP/") else 400
        raise ProtocolError(status, "the version is not RTSP/1.0")
    return Request(method, uri, headers, body)


def _encode(start_line: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [start_line, *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header value contains a line break")
    return "\r\n".join([*lines, "", ""]).encode() + body
