"""Checksums of the slices of FFV1, which FFmpeg's decoder calculates without acting on them.

It logs a wrong one and shows that part of the frame as it was in the frame before, or undefined where there is none,
whatever ``err_detect`` says: a damaged frame of a lossless recording would pass as exact. Damaged packets are therefore
recognised before they are decoded.

Source: RFC 9043, 4.9 (slice footer) and 4.9.3 (CRC, of the polynomial 0x04C11DB7, of a slice with its footer).
"""

from __future__ import annotations

import zlib

import av
from av.packet import Packet
from av.video.stream import VideoStream

_SIZE_BYTES = 3  # of the footer; with checksums, a status byte and the CRC follow
_FOOTER_BYTES = _SIZE_BYTES + 1 + 4
# zlib shifts to the right, FFV1 to the left: the same CRC over mirrored bytes
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_STARTS = (0, int(f"{0x79408C7A:032b}"[::-1], 2))  # of the CRC, by the kind of checksum; an intact slice ends with it
_INVALID_DATA = 1094995529  # AVERROR_INVALIDDATA


class SliceChecksums:
    """Recognises damaged packets of one FFV1 stream of version 3 or later; accepts all of other streams.

    ``codec`` and ``extradata`` are the decoder's: earlier versions have no extradata, and no footers. Of a stream
    without checksums only the sizes in the footers are checked.
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._active = codec == "ffv1" and bool(extradata)
        self._checksums = False
        self._waits_for_key = False

    def check(self, packet: Packet[VideoStream]) -> None:
        """Raises ``av.InvalidDataError`` for a damaged packet, and for those that depend on one, up to a key frame."""
        if not self._active or not packet.size:
            return
        if not self._is_intact(bytes(packet)):
            self._waits_for_key = True
            raise av.InvalidDataError(_INVALID_DATA, "damaged: an FFV1 slice does not match its checksum or size")
        if self._waits_for_key and not packet.is_keyframe:
            raise av.InvalidDataError(_INVALID_DATA, "depends on a damaged frame")
        self._waits_for_key = False

    def _is_intact(self, data: bytes) -> bool:
        """Whether the packet consists of whole slices, each with its checksum if those before have one."""
        if any(_has_slices(data, start) for start in _STARTS):
            self._checksums = True
            return True
        return not self._checksums and _has_slices(data, None)


def _has_slices(data: bytes, start: int | None) -> bool:
    """Whether slices fill the packet, read from its end; ``start`` is that of their CRC, ``None`` without."""
    footer = _SIZE_BYTES if start is None else _FOOTER_BYTES
    end = len(data)
    while end >= footer:
        begin = end - footer - int.from_bytes(data[end - footer : end - footer + _SIZE_BYTES], "big")
        if begin < 0 or (start is not None and _crc(data[begin:end], start) != start):
            return False
        end = begin
    return end == 0


def _crc(data: bytes, start: int) -> int:
    """The CRC of FFV1 with its bits mirrored, as ``start`` is."""
    return zlib.crc32(data.translate(_MIRRORED), start ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
