"""Decodes the packets of one video stream: in hardware, and in software from the packet on where hardware fails.

Nothing is lost at the change: the packets since the key frame before the last one are kept and decoded once more, and
their frames that were delivered already are left out. (Decoders output the last frames of a group of pictures after the
key frame of the next one.) Hardware frames are downloaded, in the planar format of the software decoder.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fusepipe.core.errors import SourceError
from fusepipe.pipeline.sources.decoders.hardware import open_hardware
from fusepipe.pipeline.sources.decoders.kinds import DecoderChoice

_LOG = logging.getLogger(__name__)
Decode = Callable[["Packet[VideoStream]"], list[VideoFrame]]
MAX_KEPT_PACKETS = 600
"""Packets that are kept; in a longer group of pictures, software starts at the next key frame."""
MAX_DAMAGED = 3  # damaged packets in a row after which the hardware is suspected
# what hardware delivers -> the same samples in planes
_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le", "p012le": "yuv420p12le", "p016le": "yuv420p16le"}


class HardwareDecoderError(SourceError):
    """A hardware decoder that the rig requires fails."""


class StreamDecoder:
    """The decoder of ``stream``, whose own decoder is the software one, with its options.

    ``label`` is the source in messages. ``open_decoder`` replaces the hardware decoder in tests: it takes the codec's
    name and returns what decodes a packet.
    """

    def __init__(
        self,
        stream: VideoStream,
        choice: DecoderChoice,
        label: str,
        open_decoder: Callable[[str], Decode] | None = None,
    ) -> None:
        self._stream, self._choice, self._label = stream, choice, label
        self._hardware: Decode | None = None
        self._kept: list[list[Packet[VideoStream]]] = []  # groups of pictures, each from its key frame on
        self._delivered: deque[int] = deque(maxlen=2 * MAX_KEPT_PACKETS)  # presentation timestamps
        self._damaged = 0
        self._waits_for_key = False
        if choice.hardware is None:
            return
        try:
            self._hardware = (open_decoder or self._open)(stream.codec_context.name)
        except (av.FFmpegError, NotImplementedError) as error:
            self._give_up(error)

    @property
    def in_hardware(self) -> bool:
        """Whether packets are decoded in hardware, as far as is known."""
        return self._hardware is not None

    def decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        """The frames that the packet completes; raises ``av.FFmpegError`` for a damaged one.

        Raises :class:`HardwareDecoderError` if hardware is required and fails.
        """
        if self._hardware is None:
            return self._in_software(packet)
        self._keep(packet)
        try:
            frames = [_planar(frame) for frame in self._hardware(packet)]
        except av.InvalidDataError as error:
            self._damaged += 1
            if self._damaged < MAX_DAMAGED or self._choice.required:
                raise
            return self._change(error)
        except av.FFmpegError as error:
            return self._change(error)
        self._damaged = 0
        self._delivered.extend(frame.pts for frame in frames if frame.pts is not None)
        return frames

    def _open(self, codec: str) -> Decode:
        kind = self._choice.hardware
        assert kind is not None
        context = open_hardware(kind, codec, fallback=not self._choice.required)
        own = self._stream.codec_context
        context.options = dict(own.options)
        context.extradata = own.extradata
        return context.decode

    def _keep(self, packet: Packet[VideoStream]) -> None:
        if packet.is_keyframe:
            self._kept = [*self._kept[-1:], []]
        while sum(map(len, self._kept)) >= MAX_KEPT_PACKETS:
            del self._kept[0]
        if self._kept:
            self._kept[-1].append(packet)

    def _change(self, error: av.FFmpegError) -> list[VideoFrame]:
        """The frames of the kept packets that were not delivered, from the software decoder."""
        self._give_up(error)
        kept = [packet for group in self._kept for packet in group]
        delivered, self._kept = set(self._delivered), []
        self._waits_for_key = not kept
        frames = []
        for packet in kept[:-1]:
            try:
                frames += [f for f in packet.decode() if f.pts is not None and f.pts not in delivered]
            except av.InvalidDataError:  # damaged, and reported when it came
                continue
        return frames + [f for last in kept[-1:] for f in last.decode() if f.pts not in delivered]

    def _give_up(self, error: Exception) -> None:
        kind = self._choice.hardware
        assert kind is not None
        why = getattr(error, "strerror", None) or str(error)
        if self._choice.required:
            raise HardwareDecoderError(
                f"{self._label}: decoder: {kind.name} does not decode this stream ({why}); decoder: auto decodes it in "
                "software"
            ) from error
        _LOG.warning("%s: %s does not decode it, decoding in software: %s", self._label, kind.name, why)
        self._hardware = None

    def _in_software(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        if self._waits_for_key and packet.size:
            if not packet.is_keyframe:
                return []
            self._waits_for_key = False
        return packet.decode()


def _planar(frame: VideoFrame) -> VideoFrame:
    """A downloaded frame in the format that the software decoder delivers; the samples stay as they are."""
    target = _PLANAR.get(frame.format.name)
    if target is None:
        return frame
    return frame.reformat(format=target, dst_color_range=frame.color_range, threads=1)
