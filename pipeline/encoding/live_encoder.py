"""The low-latency H.264 encoder of live outputs: one frame in, its access unit out, key frames on demand.

No B-frames and no look-ahead: an access unit is output before the next frame. Hardware if it works, else x264; if it
fails later, x264 replaces it. A change of the frame size opens a new encoder.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import VIDEO_TIME_BASE, FusedFrame, ValueRange
from fusepipe.core.video_formats import EncoderName
from fusepipe.pipeline.encoding.av_frames import COLOR_RANGE, COLOR_SPACE, to_av_frame
from fusepipe.pipeline.encoding.h264 import AccessUnit, parameter_sets, split_annex_b
from fusepipe.pipeline.encoding.hardware_encoders import SOFTWARE, HardwareEncoder, choose_encoder

log = logging.getLogger(__name__)

_LARGE_PX = 1_000_000  # from this size one thread is not enough for real time


@dataclass(frozen=True, slots=True)
class LiveVideoOptions:
    """Encoder settings. ``crf`` is the quality (0 lossless .. 51); ``bitrate_bps`` limits the bit rate.

    ``key_frame_ns`` is the max time between key frames. ``baseline`` selects the profile that all browsers decode.
    """

    encoder: EncoderName = "auto"
    crf: int = 23
    bitrate_bps: int | None = None
    preset: str = "superfast"
    key_frame_ns: int = 2_000_000_000
    baseline: bool = False


class LiveEncoder:
    """The encoder of one stream, used by one thread. ``fps`` is a hint; timestamps are capture times."""

    def __init__(self, options: LiveVideoOptions, *, fps: float | None) -> None:
        self._options = options
        self._fps = fps or 25.0
        self._context: VideoCodecContext | None = None
        self._frame_size = (0, 0)
        self._value_range: ValueRange = "full"
        self._sets: tuple[bytes, bytes] | None = None
        self._first_ns = self._key_ns = 0
        self._last_pts = -1
        self._recycled: VideoFrame | None = None
        self._hardware_failed = False
        self.name = ""  # of FFmpeg's encoder, while open
        self.size = (0, 0)  # (width, height) of the video, even

    @property
    def parameters(self) -> tuple[bytes, bytes]:
        """SPS and PPS; after the first frame."""
        assert self._sets is not None
        return self._sets

    def encode(self, frame: FusedFrame, *, key: bool = False) -> AccessUnit:
        """The access unit of a frame. Raises :class:`SinkError` if no encoder accepts it."""
        try:
            return self._encode(frame, key)
        except av.FFmpegError as error:
            if self.name in ("", SOFTWARE) or self._options.encoder != "auto":
                raise SinkError(f"encoder {self.name or SOFTWARE} failed: {error.strerror or error}") from error
            log.warning("encoder %s failed (%s); continuing with libx264", self.name, error.strerror or error)
            self._hardware_failed, self._context = True, None
            return self._encode(frame, key)

    def close(self) -> None:
        self._context = None

    def _encode(self, frame: FusedFrame, key: bool) -> AccessUnit:
        frame_size, value_range = (frame.width, frame.height), frame.planes[0].value_range
        if self._context is None or frame_size != self._frame_size or value_range != self._value_range:
            self._open(frame)
            key = True
        context = self._context
        assert context is not None
        # a GPU may still read the last frame
        recycled = self._recycled if self.name == SOFTWARE else None
        av_frame = self._recycled = to_av_frame(frame, *self.size, "yuv420p", self._value_range, recycled)
        pts = round(Fraction(frame.capture_ns - self._first_ns, 1_000_000_000) / VIDEO_TIME_BASE)
        av_frame.pts = self._last_pts = max(pts, self._last_pts + 1)
        av_frame.time_base = VIDEO_TIME_BASE
        if key or frame.capture_ns - self._key_ns >= self._options.key_frame_ns:
            av_frame.pict_type = PictureType.I
            self._key_ns = frame.capture_ns
        return self._unit(context, av_frame, frame.capture_ns)

    def _unit(self, context: VideoCodecContext, av_frame: VideoFrame, capture_ns: int) -> AccessUnit:
        packets = context.encode(av_frame)
        if len(packets) != 1:
            raise SinkError(f"encoder {self.name} returned {len(packets)} packets for one frame")
        nals = split_annex_b(bytes(packets[0]))
        key = packets[0].is_keyframe
        if key:
            self._key_ns = capture_ns
            sets = parameter_sets(nals)
            if sets is not None:
                self._sets = sets
            elif self._sets is not None:
                nals = (*self._sets, *nals)
            else:
                raise SinkError(f"encoder {self.name} returned a key frame without SPS and PPS")
        return AccessUnit(nals, key, capture_ns)

    # -- opening

    def _open(self, frame: FusedFrame) -> None:
        self._frame_size = (frame.width, frame.height)
        self._value_range = frame.planes[0].value_range
        self.size = (frame.width + frame.width % 2, frame.height + frame.height % 2)
        self._first_ns, self._last_pts, self._sets = frame.capture_ns, -1, None
        hardware = None if self._hardware_failed else choose_encoder(self._options.encoder, self.size)
        self.name = SOFTWARE if hardware is None else hardware.codec
        self._context = self._opened(hardware, frame)

    def _opened(self, hardware: HardwareEncoder | None, frame: FusedFrame) -> VideoCodecContext:
        context = av.CodecContext.create(self.name, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = self.size
        context.pix_fmt = "yuv420p" if hardware is None else hardware.pixel_format
        context.time_base = VIDEO_TIME_BASE
        context.framerate = Fraction(self._fps).limit_denominator(1001)
        context.color_range = COLOR_RANGE[self._value_range]
        context.colorspace = COLOR_SPACE[frame.matrix]
        if frame.pixel_aspect != 1:
            context.sample_aspect_ratio = frame.pixel_aspect
        # key frames are requested by capture time; this is only a fallback
        context.gop_size = max(1, round(2 * self._options.key_frame_ns / 1e9 * self._fps))
        context.max_b_frames = 0
        if self._options.bitrate_bps is not None:
            context.bit_rate = self._options.bitrate_bps
        context.options = self._x264_options() if hardware is None else self._hardware_options(hardware)
        context.open()
        return context

    def _x264_options(self) -> dict[str, str]:
        options, rate = self._options, self._options.bitrate_bps
        width, height = self.size
        threads = 1 if width * height < _LARGE_PX else min(4, os.cpu_count() or 1)
        chosen = {
            "preset": options.preset,
            "tune": "zerolatency",
            "forced-idr": "1",
            "x264-params": f"sliced-threads=1:threads={threads}:repeat-headers=1:scenecut=0",
        }
        if options.baseline:
            chosen["profile"] = "baseline"
        if rate is None:
            chosen["crf"] = str(options.crf)
        else:  # a buffer of half a second: short bursts, but room for key frames
            chosen |= {"maxrate": str(rate), "bufsize": str(rate // 2)}
        return chosen

    def _hardware_options(self, kind: HardwareEncoder) -> dict[str, str]:
        rate = self._options.bitrate_bps
        chosen = kind.options(self._options.crf)
        if self._options.baseline:
            chosen["profile"] = "baseline"
        if rate is None:
            return chosen
        quality = {"rc", "cq", "b", "global_quality"}  # the rate decides instead
        chosen = {key: value for key, value in chosen.items() if key not in quality}
        constant = {"rc": "cbr"} if kind.name == "nvenc" else {}
        return chosen | constant | {"maxrate": str(rate), "bufsize": str(rate // 2)}
