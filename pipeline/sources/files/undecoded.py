"""Frames of a video file whose images are decoded on demand only: where each packet is a whole image by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, Plane, UnreadableFrame
from fusepipe.core.units import S
from fusepipe.pipeline.sources.av_input import exact
from fusepipe.pipeline.sources.files.slice_checksums import SliceChecksums

INDEPENDENT_CODECS = frozenset({"ffv1", "png", "rawvideo"})
"""Codecs whose key frames need nothing that was decoded before them, and are shown in the order of the file."""
NO_IMAGE = (Plane(np.zeros((1, 1), np.uint8)),)
"""The planes of a frame that is not decoded."""
MAX_KEPT = 512
"""Packets: more than frames that pairing holds, which drops the others while one camera is alone for long."""


class UndecodedFrames:
    """Iterates over the frames of one stream in order, with their numbers and times and without their images.

    ``time_ns`` gives the capture time of a timestamp, ``frame`` makes the frame of a decoded image with its number.
    Packets that are damaged by their checksums count as unreadable, as where all are decoded. Only the last
    :data:`MAX_KEPT` frames can be decoded.
    """

    def __init__(
        self,
        packets: Iterator[Packet[VideoStream]],
        stream: VideoStream,
        band: Band,
        time_ns: Callable[[int, Fraction | None], int],
        frame: Callable[[VideoFrame, int], Frame | UnreadableFrame],
    ) -> None:
        self._packets, self._stream, self._band = packets, stream, band
        self._time_ns, self._frame = time_ns, frame
        self._checksums = SliceChecksums(stream.codec_context.name, stream.codec_context.extradata)
        self._kept: deque[tuple[int, Packet[VideoStream]]] = deque(maxlen=MAX_KEPT)
        self._last: Frame | None = None

    def __iter__(self) -> Iterator[Frame | UnreadableFrame]:
        index = 0
        for packet in self._packets:
            if packet.size == 0 or packet.is_discard:  # the end; or cut off by an edit list
                continue
            at_ns = self._time_ns(packet.pts or 0, exact(packet.time_base))
            try:
                self._checksums.check(packet)
            except av.FFmpegError as error:
                yield UnreadableFrame(self._band, index, error.strerror or type(error).__name__, at_ns)
            else:
                self._kept.append((index, packet))
                yield Frame(self._band, NO_IMAGE, index, at_ns, at_ns, Fraction(1, S))
            index += 1

    def decoded(self, frame: Frame) -> Frame:
        """``frame``, one of these, with its image; the same object again for one that was the last to be decoded.

        Packets of earlier frames are dropped. Raises :class:`SourceError` where its image cannot be decoded.
        """
        if self._last is None or self._last.index != frame.index:
            self.drop_before(frame.index)
            if not self._kept or self._kept[0][0] != frame.index:
                raise SourceError(f"frame {frame.index} is not kept any more")
            try:
                images = self._kept[0][1].decode()
            except av.FFmpegError as error:
                raise SourceError(f"frame {frame.index} cannot be decoded: {error.strerror}") from error
            made = self._frame(images[0], frame.index) if len(images) == 1 else None
            if not isinstance(made, Frame) or made.capture_ns != frame.capture_ns:
                raise SourceError(f"frame {frame.index} cannot be decoded by itself")
            self._last = made
        return self._last

    def drop_before(self, index: int) -> None:
        """Drops the packets of frames before this one, which are not decoded any more."""
        while self._kept and self._kept[0][0] < index:
            self._kept.popleft()
