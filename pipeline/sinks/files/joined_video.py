"""Joins video files that continue each other: their packets, without encoding them again, with times of one file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import VIDEO_TIME_BASE
from fusepipe.core.infrared_tag import TAG, InfraredTag, infrared_tag
from fusepipe.core.video_formats import video_format
from fusepipe.pipeline.encoding.video_times import MIN_STEP, presentation_time
from fusepipe.pipeline.sinks.files.partial_file import PartialFile, write_error
from fusepipe.pipeline.sinks.files.video import muxer_options


class UnlikeSegmentsError(SinkError):
    """The segments were not encoded alike, and no file can have them all."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """The file of a segment, and the capture time of each of its frames in ns.

    ``track``: of a file with an infrared track, for each of these frames the capture time of the infrared frame that
    was written with it, ``None`` for none; empty for a file without the track.
    """

    path: Path
    captures: Sequence[int]
    track: Sequence[int | None] = ()


def join_segments(
    segments: Sequence[SegmentFile],
    target: Path,
    *,
    fps: float | None,
    flush_ns: int,
    origin_ns: int | None = None,
    track_fps: float | None = None,
) -> list[float]:
    """Writes the packets of the segments, in their order, to ``target``; returns the times of its frames in seconds.

    The file is as if one run had written it. ``fps`` and ``flush_ns`` as of :class:`VideoSink`, ``track_fps`` is that
    of an infrared track. ``origin_ns`` is the capture time at presentation time 0, by default that of the first frame;
    the segments' own begin with their first frame. Raises
    :class:`UnlikeSegmentsError` where they were not encoded alike, :class:`SinkError` for a file that cannot be read or
    written.
    """
    found = video_format(target)
    assert found is not None
    file = PartialFile(target, overwrite=False)
    file.claim()
    try:
        options = muxer_options(found.muxer, flush_ns)
        with av.open(str(file.partial), "w", format=found.muxer, options=options) as container:
            joined = _JoinedFile(container, segments[0].captures[0] if origin_ns is None else origin_ns)
            for segment in segments:
                joined.add(segment, _rate(fps), _rate(track_fps))
        file.commit()
    except (av.FFmpegError, OSError) as error:
        raise write_error(f"{target}: cannot be joined: {error.strerror}", error) from error
    finally:
        file.release()
    return [float(pts * VIDEO_TIME_BASE) for pts in joined.times]


def _rate(fps: float | None) -> Fraction:
    return Fraction(fps or 25.0).limit_denominator(1001)


class _JoinedStream:
    """A stream of the joined file, with the parameters of the first segment's."""

    def __init__(self, container: OutputContainer, template: VideoStream, rate: Fraction) -> None:
        self._alike = _parameters(template)
        self._container = container
        self._stream = container.add_stream_from_template(template, time_base=VIDEO_TIME_BASE)
        self._stream.codec_context.time_base = VIDEO_TIME_BASE
        self._stream.codec_context.framerate = rate
        self._last_pts = -MIN_STEP
        if (tag := template.metadata.get(TAG)) is not None:
            self._stream.metadata[TAG] = tag

    def set_default(self) -> None:
        """Marks it as the stream that players show, before the first packet."""
        self._stream.disposition = Disposition.default

    def check(self, template: VideoStream) -> None:
        """Raises :class:`UnlikeSegmentsError` for a stream of a segment with other parameters."""
        different = [name for name, value in _parameters(template).items() if value != self._alike[name]]
        if different:
            raise UnlikeSegmentsError(f"its segments differ in {', '.join(different)}")

    def mux(self, packet: Packet[VideoStream], since_origin_ns: int) -> int:
        """Writes a packet of a frame that was captured so long after the origin; returns its presentation time."""
        self._last_pts = presentation_time(since_origin_ns, self._last_pts)
        packet.stream = self._stream
        packet.pts = packet.dts = self._last_pts
        packet.time_base = VIDEO_TIME_BASE
        packet.duration = 0
        self._container.mux(packet)
        return self._last_pts


class _JoinedFile:
    """The joined file; ``times`` are the presentation times of its frames so far."""

    def __init__(self, container: OutputContainer, origin_ns: int) -> None:
        self.times: list[int] = []
        self._container, self._origin_ns = container, origin_ns
        self._streams: list[_JoinedStream] = []
        self._tag: InfraredTag | None = None

    def add(self, segment: SegmentFile, rate: Fraction, track_rate: Fraction) -> None:
        """Adds the packets of a segment. Raises as :func:`join_segments`."""
        with ExitStack() as stack:
            # one for each stream: packets are taken in the order in which a run writes them
            count = 2 if segment.track else 1
            sources = [stack.enter_context(av.open(str(segment.path))) for _ in range(count)]
            if any(len(source.streams.video) != count for source in sources):
                raise UnlikeSegmentsError("its segments differ in the number of tracks")
            templates = [source.streams.video[index] for index, source in enumerate(sources)]
            self._begin(sources[0], templates, [rate, track_rate])
            packets = [
                (packet for packet in source.demux(template) if packet.size)
                for source, template in zip(sources, templates, strict=True)
            ]
            for index, capture_ns in enumerate(segment.captures):
                if (packet := next(packets[0], None)) is None:
                    raise _wrong_count(segment)
                self.times.append(self._streams[0].mux(packet, capture_ns - self._origin_ns))
                if not segment.track or (captured_ns := segment.track[index]) is None:
                    continue
                if (packet := next(packets[1], None)) is None:
                    raise _wrong_count(segment)
                self._streams[1].mux(packet, captured_ns - self._origin_ns)
            if any(next(left, None) is not None for left in packets):
                raise _wrong_count(segment)

    def _begin(self, source: InputContainer, templates: Sequence[VideoStream], rates: Sequence[Fraction]) -> None:
        """Makes the streams with the first segment; the others have to be like it."""
        tag = _tag_of(source)
        if self._streams:
            for stream, template in zip(self._streams, templates, strict=True):
                stream.check(template)
            if tag != self._tag:
                raise UnlikeSegmentsError("its segments differ in what their infrared counts are")
            return
        self._tag = tag
        if (text := source.metadata.get(TAG)) is not None:
            self._container.metadata[TAG] = text
        self._streams = [
            _JoinedStream(self._container, template, rate) for template, rate in zip(templates, rates, strict=False)
        ]
        if len(self._streams) > 1:
            self._streams[0].set_default()


def _tag_of(source: InputContainer) -> InfraredTag | None:
    """What the infrared counts of a segment are, whenever it begins."""
    texts = [source.metadata.get(TAG), *(stream.metadata.get(TAG) for stream in source.streams.video)]
    text = next((text for text in texts if text is not None), None)
    return None if text is None else replace(infrared_tag(text), origin_ns=None)


def _wrong_count(segment: SegmentFile) -> SinkError:
    return SinkError(f"{segment.path}: has not the {len(segment.captures)} frames that were written")


def _parameters(stream: VideoStream) -> dict[str, Any]:
    """What the segments of one video have in common."""
    context = stream.codec_context
    return {
        "codec": context.name,
        "size": (context.width, context.height),
        "pixel format": context.pix_fmt,
        "value range": context.color_range,
        "colour matrix": context.colorspace,
        "pixel aspect": context.sample_aspect_ratio,
        "encoder settings": bytes(context.extradata or b""),
    }
