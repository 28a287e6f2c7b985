"""The infrared camera's counts as a second, lossless track of a fused video in Matroska.

Each frame that was fused is in it once, at its own capture time on the timeline of the video; a tag of the track says
what the counts are, as in a recording of its own. Players show the first track, the fused video.
"""

from __future__ import annotations

from fractions import Fraction

from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fusepipe.core.frames import VIDEO_TIME_BASE, FusedFrame, PairState
from fusepipe.core.infrared_tag import TAG, InfraredTag
from fusepipe.pipeline.encoding.av_frames import COLOR_RANGE, to_av_frame
from fusepipe.pipeline.encoding.video_times import MIN_STEP, presentation_time
from fusepipe.pipeline.sinks.files.track_options import TrackOptions


class InfraredTrack:
    """The track of one file, made before its first packet; ``left_out`` counts frames that do not fit it.

    ``passed`` is the index of the last infrared frame that another file has, -1 for none. ``recorded_ns`` is the
    capture time of the frame that the last :meth:`encode` has written; ``None`` for none.
    """

    def __init__(self, stream: VideoStream, tag: InfraredTag, origin_ns: int, passed: int) -> None:
        self._stream, self._tag, self._origin_ns = stream, tag, origin_ns
        self._last, self._last_pts = passed, -MIN_STEP
        self.recorded_ns: int | None = None
        self._recycled: VideoFrame | None = None
        self.left_out = 0

    def encode(self, container: OutputContainer, frame: FusedFrame | None) -> int:
        """Writes the infrared frame of a fused one unless the track has it; ``None``: the end. Returns the bytes."""
        av_frame = None
        if frame is not None and (av_frame := self._av_frame(frame)) is None:
            return 0
        written = 0
        for packet in self._stream.encode(av_frame):
            written += packet.size
            container.mux(packet)
        return written

    def _av_frame(self, frame: FusedFrame) -> VideoFrame | None:
        """The infrared frame to write, if there is a new one that fits the track."""
        infrared, self.recorded_ns = frame.pair.infrared, None
        if infrared is None or frame.state is PairState.NO_SIGNAL or infrared.exposed.index <= self._last:
            return None
        self._last = infrared.exposed.index
        luma, stream = infrared.luma, self._stream
        if (luma.width, luma.height, luma.bit_depth, luma.value_range) != (
            stream.width,
            stream.height,
            self._tag.bit_depth,
            self._tag.value_range,
        ):
            self.left_out += 1
            return None
        made = to_av_frame(
            infrared, stream.width, stream.height, str(stream.pix_fmt), self._tag.value_range, self._recycled
        )
        made.pts = self._last_pts = presentation_time(infrared.exposed.capture_ns - self._origin_ns, self._last_pts)
        made.time_base = VIDEO_TIME_BASE
        self._recycled, self.recorded_ns = made, infrared.exposed.capture_ns
        return made


def track_origin_ns(frame: FusedFrame) -> int:
    """The capture time at presentation time 0 of a file whose first fused frame this is."""
    infrared = frame.pair.infrared
    return frame.capture_ns if infrared is None else min(frame.capture_ns, infrared.exposed.capture_ns)


def add_track(
    container: OutputContainer,
    frame: FusedFrame,
    options: TrackOptions,
    origin_ns: int,
    encoder_options: dict[str, str],
    passed: int = -1,
) -> InfraredTrack | None:
    """Adds the track to a container for frames such as the infrared one of ``frame``; ``None``: nothing is known of it.

    Call it before the first packet.
    """
    infrared = frame.pair.infrared
    origin = origin_ns if options.recorded else None
    if infrared is not None:
        luma, size = infrared.luma, (infrared.width, infrared.height)
        tag = InfraredTag(luma.bit_depth, luma.value_range, infrared.radiometry, origin)
    elif options.size != (0, 0):
        size, tag = options.size, InfraredTag(options.bit_depth, "full", options.radiometry, origin)
    else:
        return None
    stream = container.add_stream("ffv1", rate=Fraction(options.fps or 25.0).limit_denominator(1001))
    assert isinstance(stream, VideoStream)  # of the encoder of a video codec
    stream.options = dict(encoder_options)
    stream.pix_fmt = "gray16le" if tag.bit_depth > 8 else "gray"
    stream.width, stream.height = size
    stream.codec_context.time_base = VIDEO_TIME_BASE
    stream.codec_context.color_range = COLOR_RANGE[tag.value_range]
    if infrared is not None and infrared.pixel_aspect != 1:
        stream.codec_context.sample_aspect_ratio = infrared.pixel_aspect
    stream.metadata[TAG] = tag.to_text()
    return InfraredTrack(stream, tag, origin_ns, passed)
