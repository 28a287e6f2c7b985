"""H.264 NAL units and their RTP payloads (RFC 6184). Pure.

Packetization mode 1: a NAL unit that fits is sent as a single packet, a larger one as FU-A fragments. Units are never
aggregated: the saved headers do not justify another case.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

IDR, SPS, PPS, AUD = 5, 7, 8, 9
_FU_A = 28
_START_CODE = re.compile(rb"\x00\x00\x01")


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One coded frame. ``nals`` are NAL units without start codes; a key frame starts with its SPS and PPS.

    ``capture_ns`` is the capture time of the frame on the pipeline's timeline.
    """

    nals: tuple[bytes, ...]
    key: bool
    capture_ns: int

    @property
    def size_bytes(self) -> int:
        """Of all NAL units, without start codes."""
        return sum(len(nal) for nal in self.nals)

    def annex_b(self) -> bytes:
        """The byte stream format, with start codes (H.264, annex B)."""
        return b"".join(b"\x00\x00\x00\x01" + nal for nal in self.nals)


def nal_type(nal: bytes) -> int:
    """``nal_unit_type`` of a NAL unit without start code, 0 to 31 (ITU-T H.264, table 7-1)."""
    return nal[0] & 0x1F


def split_annex_b(stream: bytes) -> tuple[bytes, ...]:
    """The NAL units between the start codes, without empty ones."""
    marks = [match.span() for match in _START_CODE.finditer(stream)]
    if not marks:
        return ()
    ends = [start for start, _ in marks[1:]] + [len(stream)]
    # a unit ends with a 1 bit: zero bytes before a start code are padding, or its fourth byte
    cut = (stream[after:end].rstrip(b"\x00") for (_, after), end in zip(marks, ends, strict=True))
    return tuple(nal for nal in cut if nal)


def parameter_sets(nals: Iterable[bytes]) -> tuple[bytes, bytes] | None:
    """The first SPS and PPS among NAL units."""
    first: dict[int, bytes] = {}
    for nal in nals:
        first.setdefault(nal_type(nal), nal)
    return (first[SPS], first[PPS]) if SPS in first and PPS in first else None


def format_parameters(sps: bytes, pps: bytes) -> str:
    """The parameters of the SDP attribute ``a=fmtp`` (RFC 6184, 8.1)."""
    if len(sps) < 4:
        raise ValueError(f"an SPS has at least 4 bytes; got {sps!r}")
    sets = ",".join(base64.b64encode(nal).decode() for nal in (sps, pps))
    return f"packetization-mode=1;profile-level-id={sps[1:4].hex().upper()};sprop-parameter-sets={sets}"


def payloads(nals: Sequence[bytes], limit_bytes: int) -> Iterator[bytes]:
    """The RTP payloads of one access unit, each of at most ``limit_bytes``."""
    for nal in nals:
        if nal_type(nal) == AUD:
            continue  # the marker bit replaces it
        if len(nal) <= limit_bytes:
            yield nal
            continue
        indicator = bytes(((nal[0] & 0xE0) | _FU_A,))
        kind, room = nal_type(nal), limit_bytes - 2
        for start in range(1, len(nal), room):
            part = nal[start : start + room]
            edge = (0x80 if start == 1 else 0) | (0x40 if start + room >= len(nal) else 0)
            yield indicator + bytes((edge | kind,)) + part
