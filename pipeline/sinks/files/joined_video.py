"""Joins video files that continue each other: their packets, without encoding them again, with times of one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import VIDEO_TIME_BASE
from fusepipe.core.video_formats import video_format
from fusepipe.pipeline.encoding.video_times import MIN_STEP, presentation_time
from fusepipe.pipeline.sinks.files.partial_file import PartialFile, write_error
from fusepipe.pipeline.sinks.files.video import muxer_options


class UnlikeSegmentsError(SinkError):
    """The segments were not encoded alike, and no file can have them all."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """The file of a segment, and the capture time of each of its frames in ns."""

    path: Path
    captures: Sequence[int]


def join_segments(segments: Sequence[SegmentFile], target: Path, *, fps: float | None, flush_ns: int) -> int:
    """Writes the packets of the segments, in their order, to ``target``; returns the number of frames.

    The file is as if one run had written it. ``fps`` and ``flush_ns`` as of :class:`VideoSink`. Raises
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
            frames = _copy(segments, container, Fraction(fps or 25.0).limit_denominator(1001))
        file.commit()
    except (av.FFmpegError, OSError) as error:
        raise write_error(f"{target}: cannot be joined: {error.strerror}", error) from error
    finally:
        file.release()
    return frames


def _copy(segments: Sequence[SegmentFile], container: OutputContainer, rate: Fraction) -> int:
    stream: VideoStream | None = None
    alike: dict[str, Any] = {}
    frames, last_pts, first_ns = 0, -MIN_STEP, segments[0].captures[0]
    for segment in segments:
        with av.open(str(segment.path)) as source:
            template = source.streams.video[0]
            if stream is None:
                alike = _parameters(template)
                stream = container.add_stream_from_template(template, time_base=VIDEO_TIME_BASE)
                stream.codec_context.time_base = VIDEO_TIME_BASE
                stream.codec_context.framerate = rate
            different = [name for name, value in _parameters(template).items() if value != alike[name]]
            if different:
                raise UnlikeSegmentsError(f"its segments differ in {', '.join(different)}")
            packets = (packet for packet in source.demux(template) if packet.size)
            count = 0
            for capture_ns, packet in zip(segment.captures, packets, strict=False):
                last_pts = presentation_time(capture_ns - first_ns, last_pts)
                packet.stream = stream
                packet.pts = packet.dts = last_pts
                packet.time_base = VIDEO_TIME_BASE
                packet.duration = 0
                container.mux(packet)
                count += 1
            if count != len(segment.captures) or next(packets, None) is not None:
                raise SinkError(f"{segment.path}: has not the {len(segment.captures)} frames that were written")
        frames += count
    return frames


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
