"""FFmpeg options for each kind of live URL: low latency, no audio, bounded waits. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fusepipe.core.units import S
from fusepipe.pipeline.sources.decoders.kinds import SOFTWARE, DecoderChoice

RtspTransport = Literal["tcp", "udp"]
Damaged = Literal["drop", "show"]

# a URL must not lead FFmpeg elsewhere, such as a playlist that names local files
_NETWORK = "udp,tcp,tls,rtp,rtcp,srtp,rtsp,rtsps,http,https,httpproxy,crypto,rtmp,rtmps,srt"
IMAGE_SUFFIXES = {"jpg": "jpeg_pipe", "jpeg": "jpeg_pipe", "png": "png_pipe", "bmp": "bmp_pipe", "webp": "webp_pipe"}
IMAGE_FORMATS = frozenset(IMAGE_SUFFIXES.values())  # of FFmpeg, for one image
_IMAGE_SUFFIX = re.compile(rf"\.({'|'.join(IMAGE_SUFFIXES)})$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How to open a live camera. ``options`` are FFmpeg options, which override the ones chosen here.

    ``damaged``: whether frames that the decoder reports as damaged are left out (``drop``) or delivered (``show``).
    ``format`` is FFmpeg's name of the format, instead of its own guess. With ``poll_ns`` the URL gives a single image,
    which is fetched again at this interval. ``yuyv_counts``: the two bytes of each pixel of packed video are a count.
    """

    transport: RtspTransport = "tcp"
    fps: float | None = None
    open_timeout_ns: int = 5 * S
    stall_timeout_ns: int = 3 * S
    damaged: Damaged = "drop"
    format: str | None = None
    poll_ns: int | None = None
    decoder: DecoderChoice = SOFTWARE
    yuyv_counts: bool = False
    options: Mapping[str, str] = field(default_factory=dict, repr=False)  # may have credentials, such as headers


@dataclass(frozen=True, slots=True)
class OpenArguments:
    """Arguments of ``av.open``: file or URL, FFmpeg's input format (``None``: auto-detected), options."""

    file: str
    format: str | None
    options: dict[str, str]


def open_arguments(url: str, live: LiveOptions) -> OpenArguments:
    """The arguments of ``av.open`` for ``url`` (a live URL or a device such as ``/dev/video0``)."""
    if url.startswith("/dev/"):
        chosen = {"timestamps": "default"}  # the driver's, monotonic
        if live.fps is not None:
            chosen["framerate"] = f"{live.fps:g}"
        return OpenArguments(url, "v4l2", {**chosen, **live.options})
    scheme = url.partition("://")[0].lower()  # a password may have brackets, which urlsplit takes for an IPv6 address
    # Certificates of cameras are nearly always self-signed. FFmpeg 9 verifies them by default, and 8 does not, also
    # that of a camera that redirects from http:// to https://: here none does unless the options say so.
    chosen = {"protocol_whitelist": _NETWORK, "tls_verify": "0"}
    image = None
    if scheme in ("rtsp", "rtsps"):
        # RTSP describes the stream (SDP): probing, which takes seconds, is not needed
        chosen |= {
            "rtsp_transport": live.transport,
            "allowed_media_types": "video",
            "analyzeduration": "0",
            "probesize": "32",
        }
        if live.transport == "udp":
            # reordering delay, and room for an I-frame that arrives in one burst
            chosen |= {"max_delay": "100000", "buffer_size": "4194304"}
    elif scheme in ("http", "https"):
        # FFmpeg takes a URL with the suffix of an image for the pattern of a series of files
        suffix = _IMAGE_SUFFIX.search(url) or _IMAGE_SUFFIX.search(url.partition("?")[0])
        image = IMAGE_SUFFIXES[suffix[1].lower()] if suffix else None
        chosen |= {"analyzeduration": "0", "probesize": "4096"}
    else:
        chosen |= {"analyzeduration": "500000", "fflags": "nobuffer"}
    return OpenArguments(url, live.format or image, {**chosen, **live.options})
