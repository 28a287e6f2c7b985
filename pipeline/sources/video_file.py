"""Video files through PyAV: any codec FFmpeg reads, luma taken straight from the decoder's plane."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.stream import VideoStream

from fusepipe.errors import SourceError
from fusepipe.frames import Band, Frame, Matrix, Pixels, Plane, UnreadableFrame, ValueRange
from fusepipe.pipeline import levels
from fusepipe.pipeline.sources.base import Clock, Overflow, SourceInfo

NANOSECONDS = 1_000_000_000
MAX_CONSECUTIVE_ERRORS = 250  # more undecodable packets in a row than this: the file is broken, not scratched
_LIMITED, _FULL = 1, 2  # AVColorRange
_BT709 = 1  # AVColorSpace
# Containers whose timestamps start anywhere; others start where the recording did, which pairing needs.
_ARBITRARY_START = frozenset({"mpegts", "mpeg"})


class VideoFileSource:
    """Frames of a file's first video stream, with the presentation times that the file gives.

    ``fps`` replaces those times by index / fps. ``count_range`` maps a deep visible picture to 8 bit.
    """

    clock: Clock = "media"
    overflow = Overflow.BLOCK

    def __init__(
        self,
        path: Path,
        band: Band,
        *,
        fps: float | None = None,
        count_range: tuple[int, int] | None = None,
        camera: str = "",
        stream_id: str = "",
    ) -> None:
        self.band = band
        self._path = path
        self._forced_fps = Fraction(fps).limit_denominator(1001) if fps else None
        self._count_range = count_range
        self._camera = camera
        self._stream_id = stream_id
        self._container: InputContainer | None = None

    @property
    def label(self) -> str:
        return str(self._path)

    def open(self) -> SourceInfo:
        try:
            container = av.open(str(self._path))
        except FileNotFoundError as error:
            raise SourceError(f"{self._path}: there is no such file or folder") from error
        except PermissionError as error:
            raise SourceError(f"{self._path}: cannot be read: permission denied") from error
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{self._path}: not a video that FFmpeg can read: {error.strerror}") from error
        self._container = container
        if not container.streams.video:
            raise SourceError(f"{self._path}: has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        # a damaged packet is an error that is counted, not a grey smear that passes for a picture
        stream.codec_context.options = {"err_detect": "explode"}
        pixel_format = stream.codec_context.format
        if pixel_format is None:
            raise SourceError(f"{self._path}: FFmpeg knows no decoder for its video stream; convert it")
        self._zero = self._first_time(container, stream)
        rate = self._forced_fps or stream.average_rate or stream.guessed_rate
        self._fps = Fraction(rate) if rate else None
        return SourceInfo(
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            fps=float(rate) if rate else None,
            frames=stream.frames or None,
            grey=_is_grey(pixel_format),
            bit_depth=pixel_format.components[0].bits,
            codec=stream.codec_context.name,
        )

    def frames(self, stop: threading.Event) -> Iterator[Frame | UnreadableFrame]:
        container = self._container
        if container is None:
            raise SourceError(f"{self._path}: open it first")
        stream = container.streams.video[0]
        index = errors = 0
        packets = container.demux(stream)
        while not stop.is_set():
            packet = None
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                decoded = packet.decode()
            except av.FFmpegError as error:
                errors += 1
                if errors > MAX_CONSECUTIVE_ERRORS:
                    raise SourceError(
                        f"{self._path}: nothing can be decoded after frame {index}: {error.strerror}"
                    ) from error
                at = packet.pts if packet is not None else None
                capture_ns = self._time_ns(at, stream.time_base) if at is not None else None
                reason = error.strerror or type(error).__name__
                yield UnreadableFrame(self.band, index, reason, capture_ns, arrival_ns=time.monotonic_ns())
                index += 1
                if packet is None and errors > 1:
                    return  # the demuxer itself cannot go on
                continue
            for picture in decoded:
                errors = 0
                yield self._frame(picture, index)
                index += 1

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _first_time(self, container: InputContainer, stream: VideoStream) -> Fraction:
        if container.format.name.split(",")[0] in _ARBITRARY_START and container.start_time is not None:
            return Fraction(container.start_time, av.time_base)
        return Fraction(0)

    def _time_ns(self, pts: int, time_base: Fraction | None) -> int:
        return round((pts * (time_base or Fraction(1, 1000)) - self._zero) * NANOSECONDS)

    def _frame(self, picture: VideoFrame, index: int) -> Frame | UnreadableFrame:
        time_base = picture.time_base or Fraction(1, 1000)
        if picture.pts is not None and self._forced_fps is None:
            pts, capture_ns = picture.pts, self._time_ns(picture.pts, picture.time_base)
        else:  # raw streams carry no times, and some recorders wrong ones: the nominal rate is what there is
            capture_ns = round(index * NANOSECONDS / (self._fps or 25))
            pts = round(Fraction(capture_ns, NANOSECONDS) / time_base)
        if picture.is_corrupt:
            reason = "the decoder reports damage"
            return UnreadableFrame(self.band, index, reason, capture_ns, arrival_ns=time.monotonic_ns())
        planes = infrared_planes(picture) if self.band is Band.INFRARED else visible_planes(picture, self._count_range)
        quarter_turns = round(picture.rotation / 90) % 4
        if quarter_turns:
            planes = tuple(Plane(_turned(p.pixels, quarter_turns), p.bit_depth, p.value_range) for p in planes)
        return Frame(
            band=self.band,
            planes=planes,
            index=index,
            capture_ns=capture_ns,
            pts=pts,
            time_base=time_base,
            camera=self._camera,
            stream_id=self._stream_id,
            arrival_ns=time.monotonic_ns(),
            matrix=_matrix(picture),
        )


def _turned(pixels: Pixels, quarter_turns: int) -> Pixels:
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))  # type: ignore[return-value]


def infrared_planes(picture: VideoFrame) -> tuple[Plane, ...]:
    """(Y,): the luma of an infrared picture, raw counts kept at the depth of the format."""
    if not _is_planar_luma(picture.format):
        high = picture.format.components[0].bits > 8
        picture = picture.reformat(format="gray16le" if high else "gray", dst_color_range=_FULL)
    return (_view(picture, 0, _range(picture)),)


def visible_planes(picture: VideoFrame, count_range: tuple[int, int] | None = None) -> tuple[Plane, ...]:
    """(Y,) or (Y, Cb, Cr), uint8, in the subsampling and value range of the file.

    Planar 8-bit YUV is not converted at all; RGB becomes full-range 4:4:4, and deeper formats 8 bit
    (grey ones by ``count_range`` where it is given).
    """
    form = picture.format
    if count_range is not None and _is_grey(form) and form.components[0].bits > 8:
        return (Plane(levels.counts_to_luma(*count_range)[_view(picture, 0, "full").pixels]),)
    if form.is_rgb or form.has_palette:
        picture = picture.reformat(format="yuvj444p", dst_color_range=_FULL)
    elif form.components[0].bits > 8 or not _is_planar_luma(form):
        wanted = "gray" if _is_grey(form) else "yuv420p"
        picture = picture.reformat(format=wanted, dst_color_range=picture.color_range or _LIMITED)
    value_range = _range(picture)
    count = 1 if _is_grey(picture.format) else 3
    return tuple(_view(picture, i, value_range) for i in range(count))


def _view(picture: VideoFrame, index: int, value_range: ValueRange) -> Plane:
    """A plane without a copy: the array keeps the decoder's buffer alive."""
    plane: VideoPlane = picture.planes[index]
    bits = picture.format.components[index].bits
    # VideoPlane has the buffer protocol
    data = memoryview(plane)
    rows: Pixels = np.frombuffer(data, np.uint8) if bits <= 8 else np.frombuffer(data, np.uint16)
    rows = rows.reshape(plane.height, plane.line_size // rows.itemsize)
    return Plane(rows[:, : plane.width], max(8, bits), value_range)


def _is_grey(form: VideoFormat) -> bool:
    return len(form.components) == 1 and not form.has_palette


def _is_planar_luma(form: VideoFormat) -> bool:
    """Whether plane 0 is the luma alone (and the rest, if any, one chroma plane each), little-endian."""
    if form.is_rgb or form.has_palette or form.is_bit_stream or (form.is_big_endian and form.components[0].bits > 8):
        return False
    if _is_grey(form):
        return form.name.startswith("gray")
    return form.is_planar and form.name.startswith(("yuv4", "yuvj4")) and len(form.components) == 3


def _range(picture: VideoFrame) -> ValueRange:
    """The value range as the file says; where it does not, the custom: YUV limited, grey and yuvj full."""
    if picture.color_range in (_LIMITED, _FULL):
        return "full" if picture.color_range == _FULL else "limited"
    return "full" if picture.format.name.startswith(("gray", "yuvj")) else "limited"


def _matrix(picture: VideoFrame) -> Matrix:
    """BT.709 where the file says so, or says nothing about a high-definition picture."""
    if picture.colorspace == _BT709:
        return "bt709"
    return "bt709" if picture.colorspace == 2 and picture.height >= 720 else "bt601"
