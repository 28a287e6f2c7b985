"""The server-side session state machine (RFC 2326, appendix A.2) for one live track.

Pure: requests in, responses and the next state out. The caller owns sockets and packets.

::

    init --SETUP--> ready --PLAY--> playing        PAUSE: back to ready        TEARDOWN: back to init
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote, urlsplit

from fusepipe.pipeline.servers.rtsp.digest import Guard
from fusepipe.pipeline.servers.rtsp.message import Request, Response
from fusepipe.pipeline.servers.rtsp.sdp import TRACK

METHODS = ("OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER")
TIMEOUT_S = 60  # of a session without requests or reports
MAX_FAILURES = 3  # failed logins on one connection


class State(Enum):
    """State of an RTSP session (RFC 2326, appendix A)."""

    INIT = auto()
    READY = auto()
    PLAYING = auto()


@dataclass(frozen=True, slots=True)
class Transport:
    """The negotiated transport: ``rtp`` and ``rtcp`` are interleaved channels, or the client's UDP ports."""

    tcp: bool
    rtp: int
    rtcp: int


@dataclass(frozen=True, slots=True)
class Offered:
    """A stream offered at a path.

    ``sdp`` is ``None`` until the first frame is published; ``full`` is true at the client limit.
    """

    guard: Guard
    sdp: bytes | None
    full: bool = False


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What responses state about the server and this connection."""

    find: Callable[[str], Offered | None]  # by path, without the leading slash
    server_ports: tuple[int, int] | None  # of RTP and RTCP over UDP; None: TCP only
    ssrc: int
    session_id: str


def path_of(uri: str) -> str | None:
    """The path of a request's URI without leading and trailing slash; ``None`` for an invalid URI."""
    if uri == "*":
        return ""
    try:
        path = urlsplit(uri).path
    except ValueError:  # such as an IPv6 address without closing bracket
        return None
    return unquote(path).strip("/")


def choose_transport(header: str, *, udp: bool) -> Transport | None:
    """The first of the client's alternatives (RFC 2326, 12.39) that is supported here."""
    for alternative in header.split(","):
        first, *rest = (part.strip() for part in alternative.split(";"))
        options = {name.lower(): value for name, _, value in (part.partition("=") for part in rest)}
        protocol = first.upper()
        if "multicast" in options or options.get("mode", "PLAY").strip('"').upper() != "PLAY":
            continue
        if protocol == "RTP/AVP/TCP":
            pair = _pair(options.get("interleaved", "0-1"), 0, 255)
            if pair is not None:
                return Transport(True, *pair)
        elif protocol in ("RTP/AVP", "RTP/AVP/UDP") and udp:
            # not the well-known ports: no player uses them, but an attacker might aim at a service there
            pair = _pair(options.get("client_port", ""), 1024, 65535)
            if pair is not None:
                return Transport(False, *pair)
    return None


def _pair(text: str, low: int, high: int) -> tuple[int, int] | None:
    first, dash, second = text.strip().partition("-")
    if not dash:
        second = str(int(first) + 1) if first.isascii() and first.isdigit() and len(first) < 6 else ""
    numbers = [int(t) for t in (first, second) if t.isascii() and t.isdigit() and len(t) < 6]
    if len(numbers) != 2 or numbers[0] == numbers[1] or not all(low <= n <= high for n in numbers):
        return None
    return numbers[0], numbers[1]


class RtspSession:
    """One client's session; ``state``, ``transport`` and ``path`` are up to date after each response."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self.state = State.INIT
        self.transport: Transport | None = None
        self.path = ""
        self.hang_up = False  # close the connection after this response

    def answer(self, request: Request, sequence: int) -> Response:
        """The response to ``request``; ``sequence`` is the RTP sequence number of the first packet after PLAY."""
        number = request.headers.get("cseq", "")
        if not (number.isascii() and number.isdigit() and len(number) <= 10):
            self.hang_up = True
            return Response(400, {"Server": "fusepipe"})
        response = self._answer(request, sequence)
        return Response(response.status, {"CSeq": number, "Server": "fusepipe", **response.headers}, response.body)

    def _answer(self, request: Request, sequence: int) -> Response:
        if request.method not in METHODS:
            return Response(405, {"Allow": ", ".join(METHODS)})
        if required := request.headers.get("require", request.headers.get("proxy-require", "")):
            return Response(551, {"Unsupported": required})
        if request.method == "OPTIONS":
            return Response(200, {"Public": ", ".join(METHODS)})
        return self._answer_for_stream(request, sequence)

    def _answer_for_stream(self, request: Request, sequence: int) -> Response:
        path = path_of(request.uri)
        if path is None:
            return Response(400)
        track = path.endswith(f"/{TRACK}")
        path = path.removesuffix(f"/{TRACK}")
        offered = self._context.find(path)
        if offered is None:
            return Response(404)
        if not offered.guard.admits(request.method, request.uri, request.headers.get("authorization")):
            self.hang_up = offered.guard.failures >= MAX_FAILURES
            return Response(401, {"WWW-Authenticate": offered.guard.challenge})
        if request.method == "DESCRIBE":
            return self._describe(request, offered)
        if request.method == "SETUP":
            return self._setup(request, path, offered)
        return self._control(request, path, sequence, track=track)

    def _describe(self, request: Request, offered: Offered) -> Response:
        accept = request.headers.get("accept", "application/sdp").lower()
        if not any(kind in accept for kind in ("application/sdp", "application/*", "*/*")):
            return Response(406)
        if offered.sdp is None:
            return Response(503, {"Retry-After": "2"})
        base = request.uri if request.uri.endswith("/") else f"{request.uri}/"
        return Response(200, {"Content-Type": "application/sdp", "Content-Base": base}, offered.sdp)

    def _setup(self, request: Request, path: str, offered: Offered) -> Response:
        if self.state is State.PLAYING:
            return Response(455, {"Allow": "PLAY, PAUSE, TEARDOWN, GET_PARAMETER, OPTIONS"})
        if self.state is State.READY and path != self.path:
            return Response(459)  # a session has one stream
        if offered.sdp is None:
            return Response(503, {"Retry-After": "2"})
        if self.state is State.INIT and offered.full:
            return Response(453)
        ports = self._context.server_ports
        transport = choose_transport(request.headers.get("transport", ""), udp=ports is not None)
        if transport is None:
            return Response(461)
        self.state, self.transport, self.path = State.READY, transport, path
        ssrc = f'ssrc={self._context.ssrc:08X};mode="PLAY"'
        if transport.tcp:
            text = f"RTP/AVP/TCP;unicast;interleaved={transport.rtp}-{transport.rtcp};{ssrc}"
        else:
            assert ports is not None
            client = f"client_port={transport.rtp}-{transport.rtcp}"
            text = f"RTP/AVP;unicast;{client};server_port={ports[0]}-{ports[1]};{ssrc}"
        return Response(200, {"Transport": text, **self._session()})

    def _control(self, request: Request, path: str, sequence: int, *, track: bool) -> Response:
        given = request.headers.get("session", "").partition(";")[0].strip()
        if request.method == "GET_PARAMETER" and not given:
            return Response(200)  # keep-alive before SETUP
        if self.state is State.INIT or given != self._context.session_id or path != self.path:
            return Response(454)
        if request.method == "PLAY":
            self.state = State.PLAYING
            base = request.uri.rstrip("/")
            url = base if track else f"{base}/{TRACK}"
            return Response(200, {"Range": "npt=now-", "RTP-Info": f"url={url};seq={sequence}", **self._session()})
        if request.method == "PAUSE":
            self.state = State.READY
        elif request.method == "TEARDOWN":
            self.state, self.transport, self.path, self.hang_up = State.INIT, None, "", True
        return Response(200, self._session())

    def _session(self) -> Mapping[str, str]:
        return {"Session": f"{self._context.session_id};timeout={TIMEOUT_S}"}
