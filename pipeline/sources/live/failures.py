"""Causes of camera failures: FFmpeg's errors classified for the user and for the back-off."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from urllib.parse import urlsplit

import av

from fusepipe.core.errors import SourceError

PROBE_TIMEOUT_S = 2.0
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
TLS_SCHEMES = frozenset({"rtsps", "https", "rtmps", "tls"})
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}


class Cause(StrEnum):
    """The cause; its value is the text of the message."""

    AUTHENTICATION = "authentication failed"
    NOT_FOUND = "not found"
    REFUSED = "connection refused"
    UNREACHABLE = "host unreachable"
    TIMEOUT = "timeout"
    TLS = "TLS failed"
    CODEC = "no usable video"
    SIZE = "image too small"
    SHAPE = "image of another shape"
    FORMAT = "image of another format"
    PROTOCOL = "not supported"
    ENDED = "connection lost"
    BUSY = "busy"
    PERMISSION = "permission denied"
    OTHER = "failed"


HINTS = {
    Cause.AUTHENTICATION: "check user and password in the URL",
    Cause.NOT_FOUND: "check the path of the URL",
    Cause.REFUSED: "check host, port and power of the camera",
    Cause.UNREACHABLE: "check the host name and the network",
    Cause.TIMEOUT: "check the network, or try the other transport",
    Cause.TLS: "check that the port uses TLS and that the certificate is valid",
    Cause.CODEC: "check that FFmpeg can decode the stream",
    Cause.SIZE: "check the crop",
    Cause.SHAPE: "set the camera to a size of the same aspect ratio, or calibrate again",
    Cause.FORMAT: "set the camera to the format of its settings, or change those",
    Cause.PERMISSION: "add the user to the group of the device (usually: video)",
    Cause.BUSY: "another program may be using it",
}
# These do not go away by waiting, so they fail the start of a run. Cameras that are off, and relays without a publisher
# yet (not found), may come up later.
PERMANENT = frozenset(
    {
        Cause.AUTHENTICATION,
        Cause.TLS,
        Cause.CODEC,
        Cause.SIZE,
        Cause.FORMAT,
        Cause.PROTOCOL,
        Cause.PERMISSION,
    }
)
# The camera works, and delivers what its settings or the calibration do not allow.
MISFIT = frozenset({Cause.SIZE, Cause.SHAPE, Cause.FORMAT})


class LiveError(SourceError):
    """A camera that cannot be opened or has stopped; ``cause`` is the reason. The message contains no secrets."""

    def __init__(self, label: str, cause: Cause, detail: str = "") -> None:
        hint = f"; {HINTS[cause]}" if cause in HINTS else ""
        because = f" ({detail})" if detail else ""
        super().__init__(f"{label}: {cause}{because}{hint}")
        self.cause = cause


def no_protocol(scheme: str) -> str:
    """What to do where FFmpeg does not know a scheme."""
    return (
        f"this build of PyAV {av.__version__} has no {scheme}://; build PyAV against an FFmpeg that has it, or receive "
        f"the stream with another program and pass it on as udp:// or rtsp://"
    )


def has_protocol(scheme: str) -> bool:
    """Whether this FFmpeg can open URLs of a scheme; contacts nobody."""
    try:
        # FFmpeg looks for the protocol before it checks whether it is allowed
        av.open(f"{scheme}://127.0.0.1:1/", options={"protocol_whitelist": "none"}, timeout=1.0).close()
    except av.ProtocolNotFoundError:
        return False
    except (av.FFmpegError, OSError):
        return True
    return True


def is_timeout(error: BaseException) -> bool:
    """Whether an exception of PyAV means that its timeout has expired."""
    return isinstance(error, av.ExitError | TimeoutError)


# the first entry that matches decides
_BY_CLASS: tuple[tuple[tuple[type[BaseException], ...], Cause], ...] = (
    ((av.HTTPUnauthorizedError, av.HTTPForbiddenError), Cause.AUTHENTICATION),
    ((av.HTTPNotFoundError,), Cause.NOT_FOUND),
    ((av.HTTPServerError, av.HTTPClientError), Cause.BUSY),
    ((ConnectionRefusedError,), Cause.REFUSED),
    ((av.ExitError, TimeoutError), Cause.TIMEOUT),
    ((ConnectionResetError, BrokenPipeError, EOFError), Cause.ENDED),
    ((PermissionError,), Cause.PERMISSION),
    ((FileNotFoundError,), Cause.NOT_FOUND),
)
_BY_ERRNO = {
    errno.ENODEV: Cause.NOT_FOUND,
    errno.ENXIO: Cause.NOT_FOUND,
    errno.EBUSY: Cause.BUSY,
    errno.EHOSTUNREACH: Cause.UNREACHABLE,
    errno.ENETUNREACH: Cause.UNREACHABLE,
    errno.EHOSTDOWN: Cause.UNREACHABLE,
}
_CODEC_ERRORS = (
    av.InvalidDataError,
    av.DecoderNotFoundError,
    av.DemuxerNotFoundError,
    av.PatchWelcomeError,
)


def classify(error: BaseException, url: str, options: Mapping[str, str] = NO_OPTIONS) -> tuple[Cause, str]:
    """The cause of an exception that PyAV raised for ``url`` and FFmpeg's ``options``, and its text without the URL.

    Where FFmpeg only reports "Input/output error" (names that do not resolve, TLS), the network is probed again.
    """
    detail = getattr(error, "strerror", None) or type(error).__name__
    number = getattr(error, "errno", None)
    cause = next((cause for classes, cause in _BY_CLASS if isinstance(error, classes)), None)
    if cause is None and number is not None:
        cause = _BY_ERRNO.get(number)
    if isinstance(error, av.ProtocolNotFoundError):
        return Cause.PROTOCOL, no_protocol(url.partition("://")[0].lower())
    if cause is None and isinstance(error, _CODEC_ERRORS):
        cause = Cause.CODEC
    if cause is None and number == errno.EIO:
        return probe_network(url, options) or (Cause.OTHER, detail)
    return cause or Cause.OTHER, "no response" if cause is Cause.TIMEOUT else detail


def probe_network(url: str, options: Mapping[str, str] = NO_OPTIONS) -> tuple[Cause, str] | None:
    """The cause found by a plain connection and, for TLS, a handshake as FFmpeg makes it; ``None`` if both work."""
    scheme, _, rest = url.partition("://")
    address = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]  # a password may have brackets
    try:
        parts = urlsplit(f"{scheme}://{address}")
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return Cause.UNREACHABLE, "invalid port in the URL"
    if not host or not port:
        return None
    tls = parts.scheme in TLS_SCHEMES
    try:
        with socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S) as plain:
            if tls:
                with _tls_context(options).wrap_socket(plain, server_hostname=host):
                    return None
        return None
    except OSError as error:
        return _network_cause(error, host, tls=tls)


def _tls_context(options: Mapping[str, str]) -> ssl.SSLContext:
    """Verifies the certificate only where FFmpeg's options do, or a self-signed one would be named as the cause."""
    if options.get("tls_verify", "0") == "0":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=options.get("ca_file"))


def _network_cause(error: OSError, host: str, *, tls: bool) -> tuple[Cause, str]:
    if isinstance(error, socket.gaierror):
        return Cause.UNREACHABLE, f"{host}: {error.strerror}"
    if isinstance(error, ssl.SSLError):
        return Cause.TLS, error.reason or "handshake failed"
    if isinstance(error, ConnectionRefusedError):
        return Cause.REFUSED, "no program listens on the port"
    if isinstance(error, TimeoutError):  # with TLS, TCP did connect: the handshake timed out
        return (Cause.TLS if tls else Cause.TIMEOUT), "no response"
    return Cause.UNREACHABLE, error.strerror or str(error)
