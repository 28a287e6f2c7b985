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
from typing import Literal

import av
from av.container import OutputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fusepipe.core.errors import OutputExistsError, SinkError, SinkSetupError
from fusepipe.core.frames import VIDEO_TIME_BASE, FusedFrame, ValueRange
from fusepipe.core.infrared_tag import TAG, InfraredTag
from fusepipe.core.units import S
from fusepipe.core.video_formats import (
    ENCODERS,
    VIDEO_SUFFIXES,
    EncoderName,
    VideoFormat,
    alternatives,
    video_format,
)
from fusepipe.pipeline.encoding.av_frames import COLOR_RANGE, COLOR_SPACE, to_av_frame
from fusepipe.pipeline.encoding.hardware_encoders import HardwareEncoder, choose_encoder
from fusepipe.pipeline.encoding.video_times import MIN_STEP, presentation_time
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.files.infrared_track import (
    InfraredTrack,
    add_track,
    track_origin_ns,
)
from fusepipe.pipeline.sinks.files.partial_file import REMOVED, PartialFile, write_error
from fusepipe.pipeline.sinks.files.track_options import TrackOptions

log = logging.getLogger(__name__)

KEY_FRAME_S = 2.0  # max distance of key frames
TRIED_SIZE = (640, 480)  # of the clip that a named hardware encoder must encode before the size is known


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """Encoding: ``codec`` h264, ffv1 (lossless, Matroska only) or vp9 (WebM and Matroska), "" for the container's own.

    ``crf`` is that of x264, from 0 to 51, and scaled for VP9; ``preset`` is that of x264. ``infrared``: the frames are
    those of the infrared camera, of a ``live`` one or of a ``recorded`` one; a tag says what their counts are.
    ``track``: the infrared camera's counts are a second track (Matroska only).
    ``synced``: each flush is on the disk before the next one; else the file is only once it is complete.
    ``encoder`` is that of h264: hardware has no ``preset``, and lossless video (``crf`` 0) is always encoded by x264.
    """

    codec: str = ""
    crf: int = 20
    preset: str = "superfast"
    flush_ns: int = S
    synced: bool = True
    infrared: Literal["", "live", "recorded"] = ""
    track: TrackOptions | None = None
    encoder: EncoderName = "x264"


@dataclass(frozen=True, slots=True)
class _OpenVideo:
    """A file that is being written, with what its first frame decided; ``min_step`` is in units of ``time_base``."""

    container: OutputContainer
    stream: VideoStream
    size: tuple[int, int]
    value_range: ValueRange
    first_ns: int
    time_base: Fraction
    min_step: int
    track: InfraredTrack | None
    pixel_format: str
    hardware: bool

    def pts(self, capture_ns: int, last_pts: int) -> int:
        """The presentation time of a frame after the one with ``last_pts``."""
        return presentation_time(capture_ns - self.first_ns, last_pts, self.time_base, self.min_step)

    def encode(self, av_frame: VideoFrame | None) -> int:
        """Encodes a frame, or with ``None`` the end; returns the bytes without container overhead."""
        written = 0
        for packet in self.stream.encode(av_frame):
            written += packet.size
            self.container.mux(packet)
        return written


class VideoSink:
    """One video file of frames that all have the size of the first one; timestamps are capture times.

    ``fps`` is a hint for the key frame distance. ``creation_time`` (ISO 8601) is written into the file. ``origin_ns``
    is the capture time at presentation time 0, by default that of the first frame; set it before that one.
    """

    origin_ns: int | None = None

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
        self._video: _OpenVideo | None = None
        self._recycled: VideoFrame | None = None
        self._last_pts = -MIN_STEP
        self._synced_ns = 0
        self._frames = 0
        self.encoded_bytes = 0  # without container overhead
        self._failed = False
        self._report: SinkReport | None = None
        self._note = ""
        self._passed = -1  # the last infrared frame that is not in the track, as another file has it

    @property
    def label(self) -> str:
        return str(self._file.path)

    @property
    def outputs(self) -> list[Path]:
        return [self._file.path, self._file.partial]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frames it takes; (0, 0) before the first."""
        return (0, 0) if self._video is None else self._video.size

    @property
    def first_ns(self) -> int | None:
        """The capture time at presentation time 0; ``None`` before the first frame."""
        return None if self._video is None else self._video.first_ns

    @property
    def recorded_ns(self) -> int | None:
        """The capture time of the infrared frame that the last write has added to the track; ``None`` for none."""
        return None if self._video is None or self._video.track is None else self._video.track.recorded_ns

    def pass_over(self, frame: FusedFrame) -> None:
        """Counts the infrared frame of a fused one as in the track already; before the first :meth:`write`."""
        if frame.pair.infrared is not None:
            self._passed = frame.pair.infrared.exposed.index

    @property
    def pts_s(self) -> float:
        """The presentation time of the last frame in seconds; Matroska rounds it to 1 ms."""
        return float(self._last_pts * (VIDEO_TIME_BASE if self._video is None else self._video.time_base))

    def check(self) -> None:
        self._file.check()
        if self._format()[1] == "h264" and self._options.encoder not in ("auto", "x264"):
            choose_encoder(self._options.encoder, TRIED_SIZE)  # now rather than at the first frame

    def _format(self) -> tuple[VideoFormat, str]:
        """The format of the file and its codec; raises :class:`SinkSetupError`."""
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
        return found, codec

    def write(self, frame: FusedFrame) -> None:
        try:
            if self._video is None:
                self._video = self._open(frame)
            video, stream = self._video, self._video.stream
            if (frame.width, frame.height) != video.size:
                raise SinkError(
                    f"{self.label}: pair {frame.name or frame.index} is {frame.width}x{frame.height}, the video "
                    f"{video.size[0]}x{video.size[1]}; use an images sink for frames of different sizes"
                )
            recycled = None if video.hardware else self._recycled  # a GPU may still read the last frame
            av_frame = to_av_frame(frame, stream.width, stream.height, video.pixel_format, video.value_range, recycled)
            self._recycled = av_frame
            av_frame.pts = self._last_pts = video.pts(frame.capture_ns, self._last_pts)
            av_frame.time_base = video.time_base
            self.encoded_bytes += video.encode(av_frame)
            if video.track is not None:
                self.encoded_bytes += video.track.encode(video.container, frame)
            self._frames += 1
            if self._options.synced and frame.capture_ns - self._synced_ns >= self._options.flush_ns:
                self._synced_ns = frame.capture_ns
                self._file.sync()
        except (av.FFmpegError, OSError, OverflowError, ValueError) as error:
            self._failed = True
            raise self._problem("cannot be written", error) from error

    def close(self) -> SinkReport:
        if self._report is not None:
            return self._report
        if self._video is None:
            self._report = SinkReport(self.label, 0, 0, "no frames, no file")
            self._file.discard()
            return self._report
        if self._failed:
            return self._abandon(self._video)
        self._report = SinkReport(str(self._file.partial), self._frames, 0, "could not be finalised")
        try:
            self.encoded_bytes += self._video.encode(None)
            if self._video.track is not None:
                self.encoded_bytes += self._video.track.encode(self._video.container, None)
            self._video.container.close()
            size = self._file.commit()
        except FileExistsError as error:
            raise OutputExistsError(
                f"{self.label}: was created by another program during this run; the recording is {self._file.partial}"
            ) from error
        except (av.FFmpegError, OSError) as error:
            if not self._file.in_place:
                self._report = SinkReport(self.label, 0, 0, REMOVED)
            raise self._problem("cannot be finalised", error) from error
        finally:
            self._file.release()
        track = self._video.track
        if track is not None and track.left_out:
            self._note = f"{track.left_out} infrared frames of another size or depth are not in the infrared track"
        self._report = SinkReport(self.label, self._frames, size, self._note)
        return self._report

    def _abandon(self, video: _OpenVideo) -> SinkReport:
        """After a failed :meth:`write`: keeps what has been written in the partial file, unless that was removed."""
        if self._file.in_place:
            note = "writing failed; playable up to the last flush"
            self._report = SinkReport(str(self._file.partial), self._frames, 0, note)
        else:
            self._report = SinkReport(self.label, 0, 0, REMOVED)
        try:
            video.container.close()
        except (av.FFmpegError, OSError) as error:
            log.debug("%s: %s", self._file.partial, error)
        if not self._frames:
            self._file.discard()
        self._file.release()
        return self._report

    def _problem(self, what: str, error: BaseException) -> SinkError:
        reason = getattr(error, "strerror", None) or str(error)
        kept = f"; what was written is in {self._file.partial}" if self._frames and self._file.in_place else ""
        return write_error(f"{self.label}: {what}: {reason}{kept}", error)

    def _open(self, frame: FusedFrame) -> _OpenVideo:
        """Creates the file with a stream for frames such as this one."""
        found, codec = self._format()
        even = 1 if codec == "ffv1" else 2
        coded = (-(-frame.width // even) * even, -(-frame.height // even) * even)
        chosen = codec == "h264" and self._options.crf > 0
        hardware = choose_encoder(self._options.encoder, coded) if chosen else None
        self._file.claim()
        self._synced_ns = frame.capture_ns
        muxer = muxer_options(found.muxer, self._options.flush_ns)
        container = av.open(str(self._file.partial), "w", format=found.muxer, options=muxer)
        options = self._options.track
        first_ns = frame.capture_ns if options is None else track_origin_ns(frame)
        origin_ns = first_ns if self.origin_ns is None else self.origin_ns
        if self._options.infrared:
            container.metadata[TAG] = self._tag(frame, origin_ns).to_text()
        if self._creation_time is not None:
            container.metadata["creation_time"] = self._creation_time
        rate = Fraction(self._fps).limit_denominator(1001)
        time_base, min_step = VIDEO_TIME_BASE, MIN_STEP
        if not found.timestamps:
            time_base, min_step, self._last_pts = 1 / rate, 1, -1
            self._note = f"constant {float(rate):g} fps: AVI has no capture times"
        # yuv420p also for greyscale: many players do not support monochrome video
        grey = "gray16le" if frame.planes[0].bit_depth > 8 else "gray"
        pixel_format = grey if codec == "ffv1" and len(frame.planes) == 1 else "yuv420p"
        stream = container.add_stream(ENCODERS[codec] if hardware is None else hardware.codec, rate=rate)
        assert isinstance(stream, VideoStream)  # of the encoder of a video codec
        stream.options = dict(encoder_options(codec, self._options, self._fps, hardware))
        stream.pix_fmt = pixel_format if hardware is None else hardware.pixel_format
        size = (frame.width, frame.height)
        stream.width, stream.height = coded
        if (stream.width, stream.height) != size:
            self._note = f"padded to {stream.width}x{stream.height}: 4:2:0 requires even dimensions"
        context = stream.codec_context
        context.time_base = time_base
        context.color_range = COLOR_RANGE[frame.planes[0].value_range]
        if frame.pixel_aspect != 1:
            context.sample_aspect_ratio = frame.pixel_aspect
        context.colorspace = COLOR_SPACE[frame.matrix]
        track = None
        if options is not None:
            lossless = dict(encoder_options("ffv1", self._options, self._fps))
            track = add_track(container, frame, options, origin_ns, lossless, self._passed)
            if track is not None:
                stream.disposition = Disposition.default
            else:
                self._note = "without an infrared track: it began before the infrared camera was there"
        value_range, in_hardware = frame.planes[0].value_range, hardware is not None
        return _OpenVideo(
            container, stream, size, value_range, origin_ns, time_base, min_step, track, pixel_format, in_hardware
        )

    def _tag(self, frame: FusedFrame, origin_ns: int) -> InfraredTag:
        luma, infrared = frame.planes[0], frame.pair.infrared
        radiometry = None if infrared is None else infrared.radiometry
        recorded = self._options.infrared == "recorded"
        return InfraredTag(luma.bit_depth, luma.value_range, radiometry, origin_ns if recorded else None)


def muxer_options(muxer: str, flush_ns: int) -> dict[str, str]:
    """FFmpeg's options of a container that is flushed every ``flush_ns``; in MP4 and MOV each flush is a fragment."""
    flushed = {"flush_packets": "1"}
    if muxer in ("matroska", "webm"):
        # bitexact: no random segment and track IDs, so that the same frames give the same bytes
        # max_interleave_delta: one track does not wait for another, which may have no frames for a while
        waits = {"max_interleave_delta": str(flush_ns // 1000)}
        return {**flushed, **waits, "cluster_time_limit": str(flush_ns // 1_000_000), "fflags": "+bitexact"}
    if muxer == "avi":
        return flushed
    movflags = "frag_keyframe+empty_moov+default_base_moof"
    return {**flushed, "movflags": movflags, "frag_duration": str(flush_ns // 1000)}


def encoder_options(
    codec: str, options: VideoOptions, fps: float, hardware: HardwareEncoder | None = None
) -> dict[str, str]:
    """FFmpeg's options of an encoder: without delay, so that an interrupted recording has every frame."""
    key_frames = str(max(1, round(KEY_FRAME_S * fps)))
    if codec == "ffv1":
        return {"level": "3", "slicecrc": "1", "g": "1"}
    if codec == "vp9":
        crf = round(options.crf * 63 / 51)  # x264's scale ends at 51, VP9's at 63
        quality = {"lossless": "1"} if crf == 0 else {"crf": str(crf), "b": "0"}
        speed = {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "threads": "2", "lag-in-frames": "0"}
        return {**quality, **speed, "g": key_frames}
    if hardware is not None:
        return {**hardware.options(options.crf), "g": key_frames, "bf": "0"}
    return {
        "crf": str(options.crf),
        "preset": options.preset,
        # no B-frames, no look-ahead: frames are written without delay
        "tune": "zerolatency",
        "x264-params": "sliced-threads=0:threads=2",
        "g": key_frames,
    }
