"""Video files through PyAV: H.264, FFV1 or VP9 in Matroska, WebM, AVI or fragmented MP4, with true timestamps.

AVI has a frame rate instead of timestamps: frames take the nearest slot of that rate, and gaps keep their length.
Crash-safe: the containers are written in fragments of at most the flush interval; each is on disk (``fdatasync``)
before the next one; the file has ``.partial`` in its name until it is closed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fusepipe.core.errors import OutputExistsError, SinkError, SinkSetupError
from fusepipe.core.frames import VIDEO_TIME_BASE, FusedFrame, ValueRange
from fusepipe.core.units import S
from fusepipe.core.video_formats import ENCODERS, VIDEO_SUFFIXES, alternatives, video_format
from fusepipe.pipeline.encoding.av_frames import COLOR_RANGE, COLOR_SPACE, to_av_frame
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.files.partial_file import PartialFile, write_error

log = logging.getLogger(__name__)

MIN_STEP = 90  # of VIDEO_TIME_BASE: timestamps stay strictly increasing when the Matroska muxer rounds to 1 ms
KEY_FRAME_S = 2.0  # max distance of key frames


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """Encoding: ``codec`` h264, ffv1 (lossless, Matroska only) or vp9 (WebM and Matroska), "" for the container's own.

    ``crf`` is that of x264, from 0 to 51, and scaled for VP9; ``preset`` is that of x264.
    """

    codec: str = ""
    crf: int = 20
    preset: str = "superfast"
    flush_ns: int = S


class VideoSink:
    """One video file of frames that all have the size of the first one; timestamps are capture times.

    ``fps`` is a hint for the key frame distance. ``creation_time`` (ISO 8601) is written into the file.
    """

    def __init__(
        self,
        path: Path,
        options: VideoOptions,
        *,
        fps: float | None = None,
        overwrite: bool = False,
        creation_time: str | None = None,
    ) -> None:
        self._file = PartialFile(path, overwrite=overwrite)
        self._options = options
        self._fps = fps or 25.0
        self._creation_time = creation_time
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._size = (0, 0)
        self._value_range: ValueRange = "full"
        self._first_ns = 0
        self._time_base, self._min_step = VIDEO_TIME_BASE, MIN_STEP
        self._last_pts = -MIN_STEP
        self._synced_ns = 0
        self._frames = 0
        self.encoded_bytes = 0  # without container overhead
        self._failed = False
        self._report: SinkReport | None = None
        self._note = ""

    @property
    def label(self) -> str:
        return str(self._file.path)

    @property
    def outputs(self) -> list[Path]:
        return [self._file.path, self._file.partial]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frames it takes; (0, 0) before the first."""
        return self._size

    @property
    def pts_s(self) -> float:
        """The presentation time of the last frame in seconds; Matroska rounds it to 1 ms."""
        return float(self._last_pts * self._time_base)

    def check(self) -> None:
        self._file.check()
        found = video_format(self._file.path)
        if found is None:
            kinds = alternatives(VIDEO_SUFFIXES)
            raise SinkSetupError(f"{self._file.path}: unknown video format; use the extension {kinds}")
        codec = self._options.codec or found.codecs[0]
        if codec not in found.codecs:
            raise SinkSetupError(f"{self._file.path}: codec {codec} does not fit; use {alternatives(found.codecs)}")
        if ENCODERS[codec] not in av.codecs_available:
            raise SinkSetupError(
                f"{self._file.path}: this FFmpeg has no encoder {ENCODERS[codec]}; write another format, such as .mkv"
            )

    def write(self, frame: FusedFrame) -> None:
        try:
            if self._container is None:
                self._open(frame)
            if (frame.width, frame.height) != self._size:
                raise SinkError(
                    f"{self.label}: pair {frame.name or frame.index} is {frame.width}x{frame.height}, the video "
                    f"{self._size[0]}x{self._size[1]}; use an images sink for frames of different sizes"
                )
            av_frame = self._to_av_frame(frame)
            pts = round(Fraction(frame.capture_ns - self._first_ns, S) / self._time_base)
            av_frame.pts = self._last_pts = max(pts, self._last_pts + self._min_step)
            av_frame.time_base = self._time_base
            self._encode(av_frame)
            self._frames += 1
            if frame.capture_ns - self._synced_ns >= self._options.flush_ns:
                self._synced_ns = frame.capture_ns
                self._file.sync()
        except (av.FFmpegError, OSError, OverflowError, ValueError) as error:
            self._failed = True
            raise self._problem("cannot be written", error) from error

    def close(self) -> SinkReport:
        if self._report is not None:
            return self._report
        if self._container is None:
            self._report = SinkReport(self.label, 0, 0, "no frames, no file")
            self._file.discard()
            return self._report
        if self._failed:
            return self._abandon()
        self._report = SinkReport(str(self._file.partial), self._frames, 0, "could not be finalised")
        try:
            self._encode(None)
            self._container.close()
            size = self._file.commit()
        except FileExistsError as error:
            raise OutputExistsError(
                f"{self.label}: was created by another program during this run; the recording is {self._file.partial}"
            ) from error
        except (av.FFmpegError, OSError) as error:
            raise self._problem("cannot be finalised", error) from error
        finally:
            self._file.release()
            self._container = None
        self._report = SinkReport(self.label, self._frames, size, self._note)
        return self._report

    def _abandon(self) -> SinkReport:
        """After a failed :meth:`write`: keeps what has been written in the partial file."""
        assert self._container is not None
        note = "writing failed; playable up to the last flush"
        self._report = SinkReport(str(self._file.partial), self._frames, 0, note)
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            log.debug("%s: %s", self._file.partial, error)
        self._container = None
        if not self._frames:
            self._file.discard()
        self._file.release()
        return self._report

    def _problem(self, what: str, error: BaseException) -> SinkError:
        reason = getattr(error, "strerror", None) or str(error)
        kept = f"; what was written is in {self._file.partial}" if self._frames else ""
        return write_error(f"{self.label}: {what}: {reason}{kept}", error)

    # -- encoding

    def _open(self, frame: FusedFrame) -> None:
        self._file.claim()
        self._size = (frame.width, frame.height)
        self._first_ns = self._synced_ns = frame.capture_ns
        found = video_format(self._file.path)
        assert found is not None  # see check()
        muxer = muxer_options(found.muxer, self._options.flush_ns)
        container = self._container = av.open(str(self._file.partial), "w", format=found.muxer, options=muxer)
        if self._creation_time is not None:
            container.metadata["creation_time"] = self._creation_time
        rate = Fraction(self._fps).limit_denominator(1001)
        if not found.timestamps:
            self._time_base, self._min_step, self._last_pts = 1 / rate, 1, -1
            self._note = f"constant {float(rate):g} fps: AVI has no capture times"
        codec = self._options.codec or found.codecs[0]
        stream = container.add_stream(ENCODERS[codec], rate=rate)
        assert isinstance(stream, VideoStream)
        stream.options = dict(encoder_options(codec, self._options, self._fps))
        # yuv420p also for greyscale: many players do not support monochrome video
        stream.pix_fmt = "gray" if codec == "ffv1" and len(frame.planes) == 1 else "yuv420p"
        even = 1 if codec == "ffv1" else 2
        stream.width, stream.height = (-(-length // even) * even for length in self._size)
        if (stream.width, stream.height) != self._size:
            self._note = f"padded to {stream.width}x{stream.height}: 4:2:0 requires even dimensions"
        context = stream.codec_context
        context.time_base = self._time_base
        self._value_range = frame.planes[0].value_range
        context.color_range = COLOR_RANGE[self._value_range]
        if frame.pixel_aspect != 1:
            context.sample_aspect_ratio = frame.pixel_aspect
        context.colorspace = COLOR_SPACE[frame.matrix]
        self._stream = stream

    def _to_av_frame(self, frame: FusedFrame) -> VideoFrame:
        stream = self._stream
        assert stream is not None
        return to_av_frame(frame, stream.width, stream.height, stream.pix_fmt or "yuv420p", self._value_range)

    def _encode(self, av_frame: VideoFrame | None) -> None:
        assert self._container is not None and self._stream is not None
        for packet in self._stream.encode(av_frame):
            self.encoded_bytes += packet.size
            self._container.mux(packet)


def muxer_options(muxer: str, flush_ns: int) -> dict[str, str]:
    """FFmpeg's options of a container that is flushed every ``flush_ns``; in MP4 and MOV each flush is a fragment."""
    flushed = {"flush_packets": "1"}
    if muxer in ("matroska", "webm"):
        return {**flushed, "cluster_time_limit": str(flush_ns // 1_000_000)}
    if muxer == "avi":
        return flushed
    movflags = "frag_keyframe+empty_moov+default_base_moof"
    return {**flushed, "movflags": movflags, "frag_duration": str(flush_ns // 1000)}


def encoder_options(codec: str, options: VideoOptions, fps: float) -> dict[str, str]:
    """FFmpeg's options of an encoder: without delay, so that an interrupted recording has every frame."""
    key_frames = str(max(1, round(KEY_FRAME_S * fps)))
    if codec == "ffv1":
        return {"level": "3", "slicecrc": "1", "g": "1"}
    if codec == "vp9":
        crf = round(options.crf * 63 / 51)  # x264's scale ends at 51, VP9's at 63
        quality = {"lossless": "1"} if crf == 0 else {"crf": str(crf), "b": "0"}
        speed = {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "threads": "2", "lag-in-frames": "0"}
        return {**quality, **speed, "g": key_frames}
    return {
        "crf": str(options.crf),
        "preset": options.preset,
        # no B-frames, no look-ahead: frames are written without delay
        "tune": "zerolatency",
        "x264-params": "sliced-threads=0:threads=2",
        "g": key_frames,
    }
