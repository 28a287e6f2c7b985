"""Video files through PyAV: H.264 or FFV1 in Matroska or fragmented MP4, with true timestamps.

Crash-safe: both containers are written in fragments of at most the flush interval; each is on disk (``fdatasync``)
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
from fusepipe.core.frames import FusedFrame, ValueRange
from fusepipe.pipeline.encoding.av_frames import COLOR_RANGE, COLOR_SPACE, to_av_frame
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.files.partial_file import PartialFile, write_error

log = logging.getLogger(__name__)

NANOSECONDS = 1_000_000_000
TIME_BASE = Fraction(1, 90_000)  # fine enough for any camera; the Matroska muxer rounds to 1 ms
MIN_STEP = 90  # of TIME_BASE: timestamps stay strictly increasing when the Matroska muxer rounds to 1 ms
KEY_FRAME_S = 2.0  # max distance of key frames


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """Encoding: ``codec`` h264 or ffv1 (lossless, Matroska only); ``crf`` and ``preset`` are those of x264."""

    codec: str = "h264"
    crf: int = 20
    preset: str = "superfast"
    flush_ns: int = NANOSECONDS


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
        self._even = 1
        self._value_range: ValueRange = "full"
        self._first_ns = 0
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
        return float(self._last_pts * TIME_BASE)

    def check(self) -> None:
        self._file.check()
        if self._file.path.suffix.lower() not in (".mkv", ".mp4"):
            raise SinkSetupError(f"{self._file.path}: unknown video format; use the extension .mkv or .mp4")

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
            pts = round(Fraction(frame.capture_ns - self._first_ns, NANOSECONDS) / TIME_BASE)
            av_frame.pts = self._last_pts = max(pts, self._last_pts + MIN_STEP)
            av_frame.time_base = TIME_BASE
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
        path, options = self._file.path, self._options
        self._file.claim()
        self._size = (frame.width, frame.height)
        self._first_ns = self._synced_ns = frame.capture_ns
        if path.suffix.lower() == ".mkv":
            muxer = {"cluster_time_limit": str(options.flush_ns // 1_000_000), "flush_packets": "1"}
            container = av.open(str(self._file.partial), "w", format="matroska", options=muxer)
        else:
            muxer = {
                "movflags": "frag_keyframe+empty_moov+default_base_moof",
                "frag_duration": str(options.flush_ns // 1000),
                "flush_packets": "1",
            }
            container = av.open(str(self._file.partial), "w", format="mp4", options=muxer)
        self._container = container
        if self._creation_time is not None:
            container.metadata["creation_time"] = self._creation_time
        rate = Fraction(self._fps).limit_denominator(1001)
        grey = len(frame.planes) == 1
        if options.codec == "h264":
            stream = container.add_stream("libx264", rate=rate)
            stream.pix_fmt = "yuv420p"  # also for greyscale: many players do not support monochrome H.264
            self._even = 2
            stream.options = {
                "crf": str(options.crf),
                "preset": options.preset,
                # no B-frames, no look-ahead: frames are written without delay
                "tune": "zerolatency",
                "x264-params": "sliced-threads=0:threads=2",
                "g": str(max(1, round(KEY_FRAME_S * self._fps))),
            }
        else:
            stream = container.add_stream("ffv1", rate=rate)
            stream.pix_fmt = "gray" if grey else "yuv420p"
            self._even = 1
            stream.options = {"level": "3", "slicecrc": "1", "g": "1"}
        stream.width = -(-frame.width // self._even) * self._even
        stream.height = -(-frame.height // self._even) * self._even
        if (stream.width, stream.height) != self._size:
            self._note = f"padded to {stream.width}x{stream.height}: 4:2:0 requires even dimensions"
        context = stream.codec_context
        context.time_base = TIME_BASE
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
