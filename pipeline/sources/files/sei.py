"""Supplemental enhancement information (SEI) of H.264 and HEVC, which some cameras write with wrong sizes.

FFmpeg checks it like the image data: with ``err_detect=explode``, which recordings are decoded with so that damaged
images are recognised, one malformed message costs the frame. Messages that decoding does not need are therefore hidden
from the decoder, and malformed ones of any type.

Sources: ITU-T H.264 (7.3.1 NAL unit, 7.3.2.3 SEI, Annex D) and H.265 (7.3.1, 7.3.2.4, Annex D).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# picture timing, recovery point, frame packing, display orientation: the same numbers in both standards
_NEEDED = frozenset({1, 6, 45, 47})
_START_CODE = re.compile(rb"\x00\x00\x01")


@dataclass(frozen=True, slots=True)
class _Codec:
    """How a NAL unit of a codec says what it is; ``hidden`` is the type of a unit that decoders ignore."""

    sei: frozenset[int]
    hidden: int
    header_bytes: int
    shift: int
    mask: int
    length_size_at: int  # of the avcC or hvcC record


_CODECS = {
    "h264": _Codec(frozenset({6}), 12, 1, 0, 0x1F, 4),  # 12: filler data
    "hevc": _Codec(frozenset({39, 40}), 38, 2, 1, 0x3F, 21),  # 38: filler data
}


class SeiFilter:
    """Hides the SEI of a stream's packets that decoding does not need. ``extradata`` is the decoder's."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._codec = _CODECS.get(codec)
        self._length_size = 0  # 0: start codes (Annex B)
        if self._codec is not None and extradata and extradata[0] == 1 and len(extradata) > self._codec.length_size_at:
            self._length_size = (extradata[self._codec.length_size_at] & 3) + 1

    def apply(self, data: bytes) -> bytes | None:
        """A packet of the same size without such SEI; ``None`` where nothing has to change."""
        codec = self._codec
        if codec is None:
            return None
        changed: bytearray | None = None
        for begin, end in self._units(data):
            if end - begin <= codec.header_bytes or (data[begin] >> codec.shift) & codec.mask not in codec.sei:
                continue
            if not _is_needed(data[begin + codec.header_bytes : end]):
                changed = changed if changed is not None else bytearray(data)
                changed[begin] = data[begin] & ~(codec.mask << codec.shift) & 0xFF | codec.hidden << codec.shift
        return None if changed is None else bytes(changed)

    def decode(
        self, packet: Packet[VideoStream], decode: Callable[[Packet[VideoStream]], list[VideoFrame]]
    ) -> list[VideoFrame]:
        """The frames that ``decode`` returns for a packet without such SEI; raises what it raises."""
        changed = self.apply(bytes(packet)) if self._codec is not None and packet.size else None
        if changed is not None:
            packet.update(changed)
        return decode(packet)

    def _units(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Begin and end of each NAL unit, header included."""
        if self._length_size:
            at = 0
            while at + self._length_size < len(data):
                begin = at + self._length_size
                at = begin + int.from_bytes(data[at:begin], "big")
                yield begin, min(at, len(data))
            return
        begins = [match.end() for match in _START_CODE.finditer(data)]
        for begin, following in zip(begins, [*begins[1:], len(data) + 3], strict=True):
            yield begin, min(following - 3, len(data))


def _is_needed(payload: bytes) -> bool:
    """Whether every message of an SEI unit is complete, and one of them is needed for decoding."""
    data = payload.replace(b"\x00\x00\x03", b"\x00\x00")  # emulation prevention
    at, needed = 0, False
    while at + 2 < len(data) or not at:  # the last byte has the trailing bits
        values = []
        for _ in ("type", "size"):
            value = 0
            while at < len(data) and data[at] == 0xFF:
                value, at = value + 255, at + 1
            if at >= len(data):
                return False
            values.append(value + data[at])
            at += 1
        kind, size = values
        at += size
        if at > len(data):
            return False
        needed |= kind in _NEEDED
    return needed
