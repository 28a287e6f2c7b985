"""Why a camera does not deliver: FFmpeg's errors sorted into causes that a user, and the back-off, can act on."""

from __future__ import annotations

import errno
import socket
import ssl
from enum import StrEnum
from urllib.parse import urlsplit

import av

from fusepipe.core.errors import SourceError

DIAGNOSE_S = 2.0
TLS_SCHEMES = frozenset({"rtsps", "https", "rtmps", "tls"})
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}


class Cause(StrEnum):
    """The cause, in the words of the messages."""

    AUTHENTICATION = "authentication failed"
    NOT_FOUND = "not found"
    REFUSED = "connection refused"
    UNREACHABLE = "host not reachable"
    TIMEOUT = "timeout"
    TLS = "TLS failed"
    CODEC = "no usable video"
    ENDED = "connection lost"
    BUSY = "busy"
    PERMISSION = "no permission"
    OTHER = "failed"


HINTS = {
    Cause.AUTHENTICATION: "check user and password in the URL",
    Cause.NOT_FOUND: "check the path of the URL",
    Cause.REFUSED: "check host and port, and that the camera is on",
    Cause.UNREACHABLE: "check the host's name and the network",
    Cause.TIMEOUT: "check the network, or try the other transport",
    Cause.TLS: "check that the port speaks TLS and the certificate is valid",
    Cause.CODEC: "check that it is a video stream that FFmpeg decodes",
    Cause.PERMISSION: "add the user to the group of the device (often: video)",
    Cause.BUSY: "another program may hold it",
}
# What waiting does not cure: refused at the start of a run. Cameras that are off, and relays that have no publisher
# yet (not found), come later.
HOPELESS = frozenset({Cause.AUTHENTICATION, Cause.TLS, Cause.CODEC, Cause.PERMISSION})


class LiveError(SourceError):
    """A camera that cannot be opened or has stopped; ``cause`` says why. The message holds no secrets."""

    def __init__(self, label: str, cause: Cause, detail: str = "") -> None:
        hint = f"; {HINTS[cause]}" if cause in HINTS else ""
        because = f" ({detail})" if detail else ""
        super().__init__(f"{label}: {cause}{because}{hint}")
        self.cause = cause


def is_timeout(error: BaseException) -> bool:
    """Whether an error of PyAV means that its timeout has passed."""
    return isinstance(error, av.ExitError | TimeoutError)


def classify(error: BaseException, url: str) -> tuple[Cause, str]:
    """The cause of an error that PyAV raised for ``url``, and its text without the URL.

    Asks the network again where FFmpeg only says "Input/output error" (names that do not resolve, TLS).
    """
    detail = getattr(error, "strerror", None) or type(error).__name__
    number = getattr(error, "errno", None)
    if isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError):
        return Cause.AUTHENTICATION, detail
    if isinstance(error, av.HTTPNotFoundError):
        return Cause.NOT_FOUND, detail
    if isinstance(error, av.HTTPServerError | av.HTTPClientError):
        return Cause.BUSY, detail
    if isinstance(error, ConnectionRefusedError):
        return Cause.REFUSED, detail
    if is_timeout(error):
        return Cause.TIMEOUT, "no answer in time"
    if isinstance(error, ConnectionResetError | BrokenPipeError | EOFError):
        return Cause.ENDED, detail
    if isinstance(error, PermissionError):
        return Cause.PERMISSION, detail
    if isinstance(error, FileNotFoundError) or number in (errno.ENODEV, errno.ENXIO):
        return Cause.NOT_FOUND, detail
    if number == errno.EBUSY:
        return Cause.BUSY, detail
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
        return Cause.UNREACHABLE, detail
    codecs = av.InvalidDataError | av.DecoderNotFoundError | av.DemuxerNotFoundError | av.ProtocolNotFoundError
    if isinstance(error, codecs | av.PatchWelcomeError):
        return Cause.CODEC, detail
    if number == errno.EIO:
        return ask_the_network(url) or (Cause.OTHER, detail)
    return Cause.OTHER, detail


def ask_the_network(url: str) -> tuple[Cause, str] | None:
    """What a plain connection, and for TLS a handshake, says; ``None`` where both work."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return Cause.UNREACHABLE, "the URL has no valid port"
    if not host or not port:
        return None
    try:
        with socket.create_connection((host, port), timeout=DIAGNOSE_S) as plain:
            if parts.scheme in TLS_SCHEMES:
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host):
                    return None
    except socket.gaierror as error:
        return Cause.UNREACHABLE, f"{host}: {error.strerror}"
    except ssl.SSLError as error:
        return Cause.TLS, error.reason or "handshake failed"
    except ConnectionRefusedError:
        return Cause.REFUSED, "no program listens there"
    except TimeoutError:
        # plain TCP answered when the handshake did not
        return (Cause.TLS if parts.scheme in TLS_SCHEMES else Cause.TIMEOUT), "no answer in time"
    except OSError as error:
        return Cause.UNREACHABLE, error.strerror or str(error)
    return None
