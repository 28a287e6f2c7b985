"""Video files that are not whole: copies that broke off, recordings that were never finished."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from fusepipe.core.image_formats import READ_SUFFIXES
from fusepipe.core.video_formats import alternatives, video_format
from fusepipe.pipeline.sources.av_input import exact

_MISSING_S = 1.0  # a writer's rounding, and a last frame that is shown longer, are less
_MAX_BOXES = 1000
_SEGMENT = 0x18538067  # the element with all of a Matroska file but its header (RFC 9559, 5)
_MAX_ELEMENTS = 8  # of the file itself; the segment is the second


def why_unreadable(path: Path, error: str | None) -> str:
    """What is wrong with a file that FFmpeg does not open, for the reason ``error``."""
    with suppress(OSError), path.open("rb") as file:
        if not file.read(1):
            return "is empty (0 bytes)"
        names = [name for name, _ in _boxes(file)]
        if names[:1] == [b"ftyp"] and not {b"moov", b"moof"} & set(names):
            return (
                "is incomplete: it has no index (moov), which is written at the end of a recording; copy it again, or "
                "repair it with a tool such as untrunc"
            )
    if video_format(path) is not None:
        return f"FFmpeg cannot read this video: {error}"
    return f"not an image ({alternatives(sorted(READ_SUFFIXES))}), and not a video that FFmpeg can read: {error}"


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The names of the outer boxes of an MP4 or MOV file, and where they end (ISO/IEC 14496-12, 4.2)."""
    end = file.seek(0, os.SEEK_END)
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            return
        size, name = struct.unpack(">I4s", header[:8])
        if size == 1 and len(header) == 16:
            (size,) = struct.unpack(">Q", header[8:])
        position += size
        yield name, position
        if size < 8 or position >= end:  # 0: up to the end of the file
            return


def is_cut(path: Path) -> bool:
    """Whether a Matroska, MP4 or MOV file is shorter than it says; one that was never finished says nothing."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(8)[4:] == b"ftyp":
            end = file.seek(0, os.SEEK_END)
            return any(box_end > end for _, box_end in _boxes(file))
        end = file.seek(0, os.SEEK_END)
        position = 0
        for _ in range(_MAX_ELEMENTS):
            file.seek(position)
            head = file.read(12)
            name_bytes = _coded_bytes(head)
            size_bytes = _coded_bytes(head[name_bytes:])
            if not name_bytes or not size_bytes:
                return False
            size = int.from_bytes(head[name_bytes : name_bytes + size_bytes], "big")
            bits = 7 * size_bytes  # the bit above them ends the code of their number
            size &= (1 << bits) - 1
            position += name_bytes + size_bytes + size
            if int.from_bytes(head[:name_bytes], "big") == _SEGMENT:
                return size != (1 << bits) - 1 and position > end  # all ones: unknown
    return False


def _coded_bytes(data: bytes) -> int:
    """The number of bytes of the integer at the beginning (RFC 8794, 4); 0 where there is none."""
    size = 9 - data[0].bit_length() if data else 0
    return size if size <= min(8, len(data)) else 0


class EarlyEnd:
    """Notices a Matroska, MP4 or MOV file that was cut before its last frames: FFmpeg reads it to its end.

    In AVI files the last packet is then broken, and streams have no length. A recording that was never finished has
    none in its header. The length alone is no sign: the last frame may be meant to be shown for long.
    """

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        self._length_s: float | None = None
        self._end_s = 0.0
        if not is_cut(path):
            return
        if stream.duration is not None and (time_base := exact(stream.time_base)) is not None:  # MP4 and MOV
            self._length_s = float(stream.duration * time_base)
        elif "matroska" in container.format.name:
            self._length_s = _tagged_length_s(stream)
            if self._length_s is None and len(container.streams) == 1 and container.duration is not None:
                self._length_s = container.duration / av.time_base

    def packet(self, packet: Packet[VideoStream]) -> None:
        """Takes each packet of the stream."""
        if packet.pts is not None and (time_base := exact(packet.time_base)) is not None:
            self._end_s = max(self._end_s, float((packet.pts + (packet.duration or 0)) * time_base))

    def reason(self) -> str:
        """Of a frame that is missing at the end; empty where none is."""
        if self._length_s is None or self._length_s - self._end_s <= _MISSING_S:
            return ""
        return f"the file ends at {self._end_s:.3f} s of {self._length_s:.3f} s: it is incomplete"


def _tagged_length_s(stream: VideoStream) -> float | None:
    """The length that mkvmerge and FFmpeg note for each track, as 00:01:02.345000000."""
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds)).total_seconds()
    except (ValueError, OverflowError):
        return None
