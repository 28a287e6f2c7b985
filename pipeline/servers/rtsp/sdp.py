"""The SDP (RFC 4566) of one live H.264 stream. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from fusepipe.core.frames import VIDEO_CLOCK_HZ
from fusepipe.pipeline.encoding.h264 import format_parameters
from fusepipe.pipeline.servers.rtsp.rtp import PAYLOAD_TYPE

TRACK = "trackID=0"


@dataclass(frozen=True, slots=True)
class Description:
    """The properties of a stream: parameter sets of the encoder, frame size, nominal frame rate."""

    name: str
    sps: bytes
    pps: bytes
    width: int
    height: int
    fps: float | None = None


def write_sdp(description: Description, *, host: str, session_id: int) -> bytes:
    """The SDP as bytes. ``host`` is the sender's numeric address, ``session_id`` a number unique to the session."""
    family = "IP6" if ":" in host else "IP4"
    unspecified = "::" if family == "IP6" else "0.0.0.0"  # SETUP negotiates the transport
    name = "".join(c if c.isprintable() else "?" for c in description.name) or "-"
    lines = [
        "v=0",
        f"o=- {session_id} 1 IN {family} {host}",
        f"s={name}",
        f"c=IN {family} {unspecified}",
        "t=0 0",
        "a=tool:fusepipe",
        "a=range:npt=now-",
        "a=control:*",
        f"m=video 0 RTP/AVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} H264/{VIDEO_CLOCK_HZ}",
        f"a=fmtp:{PAYLOAD_TYPE} {format_parameters(description.sps, description.pps)}",
        f"a=framesize:{PAYLOAD_TYPE} {description.width}-{description.height}",
        *([f"a=framerate:{description.fps:.6g}"] if description.fps else []),
        f"a=control:{TRACK}",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()
