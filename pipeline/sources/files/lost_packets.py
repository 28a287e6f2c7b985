"""Frames that a damaged file lost without an error: FFmpeg's demuxers continue at the next whole packet."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from fusepipe.core.text import counted
from fusepipe.pipeline.sources.av_input import exact

_FORMATS = frozenset({"matroska", "nut", "flv"})  # the packets of others have no place in the file, or an index
_UNREAD_BYTES = 256  # between two packets; headers of packets and clusters are below a tenth of it


class LostPackets:
    """Notices damage by two signs at one place: bytes that belong to no packet, and a gap in the times of the packets.

    A camera that left frames out, or a variable frame rate, leaves no bytes; padding has no gap in the times. Metadata
    where a camera came back after a pause is small for the frames of the pause. Only in files of one stream, since the
    packets of other streams lie between those of this one.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        names = set(container.format.name.split(","))
        self._possible = bool(_FORMATS & names) and len(container.streams) == 1
        self._time_base = exact(stream.time_base) or Fraction(1, 1000)
        self._last: tuple[int, int] | None = None  # end in the file, decoding time
        self._steps: Counter[int] = Counter()
        self._size_bits: Counter[int] = Counter()  # of the packets: their sizes to the power of two
        self._gaps: list[tuple[int, int, int]] = []  # bytes, decoding time before it, step

    def packet(self, packet: Packet[VideoStream]) -> None:
        """Takes each packet of the stream, in the order of the file."""
        if not self._possible or not packet.size or packet.dts is None or packet.pos is None or packet.pos < 0:
            return
        self._size_bits[packet.size.bit_length()] += 1
        if self._last is not None:
            end, dts = self._last
            step = packet.dts - dts
            if packet.pos - end > _UNREAD_BYTES:
                self._gaps.append((packet.pos - end, dts, step))
            else:
                self._steps[step] += 1
        self._last = packet.pos + packet.size, packet.dts

    def reason(self) -> str:
        """How many frames are missing, about, and from where on; empty where none is."""
        if not self._gaps or not self._steps:
            return ""
        usual = max(self._steps, key=lambda step: self._steps[step])
        if usual <= 0:
            return ""
        gaps = [(size, dts, round(step / usual) - 1) for size, dts, step in self._gaps]
        least_bytes = 2 ** (_median(self._size_bits) - 2)  # of a frame: a quarter to a half of the usual
        lost = [(size, dts, frames) for size, dts, frames in gaps if frames > 0 and size >= frames * least_bytes]
        if not lost:
            return ""
        size, frames = sum(each[0] for each in lost), sum(each[2] for each in lost)
        after_s = float(lost[0][1] * self._time_base)
        places = "" if len(lost) == 1 else f" in {len(lost)} places"
        return (
            f"about {counted(frames, 'frame')} missing after {after_s:.3f} s{places}: "
            f"the file is damaged, {size} bytes of it are no packets"
        )


def _median(counts: Counter[int]) -> int:
    left = counts.total() // 2
    for value in sorted(counts):
        left -= counts[value]
        if left < 0:
            return value
    raise ValueError("nothing was counted")
