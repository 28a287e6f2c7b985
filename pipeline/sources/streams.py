"""The video streams of a container."""

from __future__ import annotations

from collections.abc import Sequence

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from fusepipe.core.infrared_tag import TAG


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams, without cover images and thumbnails unless there is nothing else."""
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    moving = [s for s in streams if not s.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)]
    return moving or streams


def infrared_tracks(streams: Sequence[VideoStream]) -> list[VideoStream]:
    """Those that are the infrared camera's track in a fused video."""
    return [stream for stream in streams if TAG in stream.metadata]


def stream_list(streams: Sequence[VideoStream]) -> str:
    """The streams with index, codec and size, for messages."""
    return ", ".join(f"stream {s.index} ({s.codec_context.name} {s.width}x{s.height})" for s in streams)
