"""One connection to a live camera: opened, read and closed by one thread, until it fails or is stopped.

An FFmpeg context must not be closed while another thread reads (the process would crash), so nothing here is shared
between threads; every call is bounded by the timeouts given when it is opened.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fusepipe.core import image_files
from fusepipe.core.counts import CountLevels
from fusepipe.core.frames import Band, Frame, Stamp, UnreadableFrame
from fusepipe.core.radiometry import Radiometry
from fusepipe.core.units import S
from fusepipe.pipeline.sources.av_input import exact, open_input
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.sources.decoders.stream_decoder import HardwareDecoderError, StreamDecoder
from fusepipe.pipeline.sources.image_colour import ImageColour
from fusepipe.pipeline.sources.live.connection_options import IMAGE_FORMATS, LiveOptions, OpenArguments, open_arguments
from fusepipe.pipeline.sources.live.failures import Cause, LiveError, classify, is_timeout
from fusepipe.pipeline.sources.reframing import AS_IT_IS, CropError, Reframing
from fusepipe.pipeline.sources.streams import stream_list, video_streams
from fusepipe.pipeline.sources.video_planes import (
    NotPackedError,
    colour_of,
    counts_of,
    packed_counts,
    telemetry_of,
    telemetry_problem,
    upright_planes,
)

# demuxers that derive timestamps from an assumed frame rate
_TIMELESS = frozenset({"mpjpeg", "mjpeg", "image2", "h264", "hevc"})
_RAW_MJPEG = "mjpeg"  # images one after another, whatever is between them
_ONE_IMAGE = "_pipe"  # how the names of FFmpeg's formats of single images end
# Whole segments arrive at once, seconds after their capture, with times of no clock that the other camera has.
_SEGMENTED = frozenset({"hls", "dash"})
_PLAYLISTS = (".m3u8", ".mpd")
_NO_SEGMENTS = "HLS and DASH deliver segments of seconds, which cannot be paired; use the camera's rtsp:// URL"
_SNAPSHOT = "the URL gives one image at a time: set poll, such as poll: 1s"
_PRFT = struct.Struct("<q")  # AVProducerReferenceTime starts with UNIX time in microseconds
_MAX_SENDER_TIMES = 64  # packets whose wall-clock time waits for their frame
_KERNEL_AGE_NS = 10 * S
_FPS = (0.1, 1000.0)


class LiveConnection:
    """Reads the frames of one connection. ``index`` is the number of the first frame, ``epoch`` that of the connection.

    ``damaged`` counts the damaged frames.

    The constructor connects; it raises :class:`LiveError`. ``label`` is the URL without secrets.
    """

    def __init__(
        self,
        url: str,
        label: str,
        options: LiveOptions,
        *,
        band: Band,
        epoch: int = 0,
        index: int = 0,
        count_range: tuple[int, int] | None = None,
        reframing: Reframing = AS_IT_IS,
        radiometry: Radiometry | None = None,
        camera: str = "",
        stream_id: str = "",
    ) -> None:
        self._url, self._label, self._options = url, label, options
        self._band, self._epoch, self.index = band, epoch, index
        self._count_range, self._camera, self._stream_id = count_range, camera, stream_id
        self._reframing, self._radiometry = reframing, radiometry
        self.damaged = 0
        self._sender_ns: OrderedDict[int, int] = OrderedDict()
        self._pixel_aspect = Fraction(1)
        self._colour: ImageColour | None = None  # of the first frame
        self._levels: CountLevels | None = None  # of the first frame, if it is 16-bit
        self._telemetry_problem = ""
        self._before_ns = time.monotonic_ns()
        self.format = ""  # that FFmpeg was made to use, because it does not recognise it
        self._container = self._open()
        stream = video_streams(self._container)[0]
        # one thread, no reordering delay: each frame is output with its own packet
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"flags": "low_delay"}
        try:
            self._decoder = StreamDecoder(stream, options.decoder, label)
        except HardwareDecoderError as error:
            raise LiveError(label, Cause.CODEC, str(error)) from error
        name = self._container.format.name
        self._one_image = name.endswith(_ONE_IMAGE)
        self._timeless = not _TIMELESS.isdisjoint(name.split(",")) or self._one_image
        # an image of raw MJPEG is known to be complete when the next one begins
        self._late_image = name == _RAW_MJPEG
        self._device = "v4l2" in name
        aspect = exact(stream.sample_aspect_ratio)
        self._pixel_aspect = aspect if aspect is not None and aspect > 0 else Fraction(1)
        if reframing.orientation.transposed:
            self._pixel_aspect = 1 / self._pixel_aspect

    def info(self, first: Frame) -> SourceInfo:
        """The properties of the stream, from its first frame."""
        stream = video_streams(self._container)[0]
        rate = exact(stream.average_rate) or exact(stream.guessed_rate)
        streams = video_streams(self._container)
        several = len(streams) > 1
        fps = float(rate) if rate and _FPS[0] <= float(rate) <= _FPS[1] else None
        return SourceInfo(
            width=first.width,
            height=first.height,
            fps=fps or self._options.fps,
            frames=None,
            grey=not first.chroma,
            bit_depth=first.luma.bit_depth,
            codec=self.codec,
            notes=(f"has {len(streams)} video streams: {stream_list(streams)}; stream {stream.index} is used",)
            * several
            + ((self._telemetry_problem,) if self._telemetry_problem else ()),
            levels=self._levels,
            colour=self._colour or "grey",
            radiometry=self._radiometry,
        )

    @property
    def codec(self) -> str:
        return str(video_streams(self._container)[0].codec_context.name)

    def frames(self, stop: threading.Event) -> Iterator[Frame | UnreadableFrame]:
        """Frames as they arrive, until ``stop``; raises :class:`LiveError` when the stream ends or stalls.

        ``stop`` takes effect within the stall timeout even while the camera is silent.
        """
        stream = video_streams(self._container)[0]
        packets = self._container.demux(stream)
        limit_ns = self._options.stall_timeout_ns + self._options.open_timeout_ns
        seen_ns = time.monotonic_ns()
        while not stop.is_set():
            asked_ns = time.monotonic_ns()
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                # FFmpeg reports "input/output error" for some reads that timed out
                if is_timeout(error) or time.monotonic_ns() - asked_ns >= self._options.stall_timeout_ns:
                    stalled = f"no data for {self._options.stall_timeout_ns / S:g} s"
                    raise LiveError(self._label, Cause.TIMEOUT, stalled) from None
                raise LiveError(self._label, Cause.ENDED, error.strerror or type(error).__name__) from None
            if packet is None or packet.size == 0:  # end of stream: the camera has disconnected
                raise LiveError(self._label, Cause.ENDED, _SNAPSHOT if self._one_image else "")
            arrival_ns = time.monotonic_ns()
            self._store_sender_time(packet, arrival_ns)
            for item in self._decoded(packet, arrival_ns):
                if isinstance(item, Frame):
                    seen_ns = arrival_ns
                yield item
            self._before_ns = arrival_ns
            if arrival_ns - seen_ns > limit_ns:
                raise LiveError(self._label, Cause.CODEC, f"{self.codec} packets arrive, but none can be decoded")

    def close(self) -> None:
        """Disconnects; called by the reading thread."""
        self._container.close()

    # -- opening

    def _open(self) -> InputContainer:
        if self._url.partition("?")[0].lower().endswith(_PLAYLISTS):
            raise LiveError(self._label, Cause.PROTOCOL, _NO_SEGMENTS)
        arguments = open_arguments(self._url, self._options)
        open_s = self._options.open_timeout_ns / S
        begun_s = time.monotonic()
        try:
            container = self._opened(arguments)
        except (av.FFmpegError, OSError) as error:
            # no "from error": FFmpeg's message contains the URL with its password
            if time.monotonic() - begun_s >= open_s:  # FFmpeg reports "invalid data" for a truncated response
                raise LiveError(self._label, Cause.TIMEOUT, f"no response within {open_s:g} s") from None
            raise LiveError(self._label, *classify(error, self._url, arguments.options)) from None
        except ValueError as error:  # no such input format in this FFmpeg
            raise LiveError(self._label, Cause.CODEC, str(error).replace(self._url, self._label)) from None
        if container.format.name in _SEGMENTED:
            container.close()
            raise LiveError(self._label, Cause.PROTOCOL, _NO_SEGMENTS)
        if arguments.format in IMAGE_FORMATS and not video_streams(container)[0].codec_context.width:
            container.close()
            raise LiveError(self._label, Cause.CODEC, "the response is not an image")
        if not video_streams(container):
            container.close()
            raise LiveError(self._label, Cause.CODEC, "the stream has no video")
        return container

    def _opened(self, arguments: OpenArguments) -> InputContainer:
        """FFmpeg's container. HTTP video in no format that FFmpeg recognises is tried as raw MJPEG.

        So are the streams of cameras that send no boundary before their first image.
        """
        limits = self._options.open_timeout_ns / S, self._options.stall_timeout_ns / S
        opened = partial(
            open_input,
            arguments.file,
            options=arguments.options,
            timeout=limits,
        )
        try:
            return opened(format=arguments.format)
        except av.InvalidDataError:
            stream = self._options.poll_ns is None and self._url.lower().startswith(("http://", "https://"))
            if not stream or arguments.format is not None:
                raise
            container = opened(format=_RAW_MJPEG)
            if not container.streams.video[0].codec_context.width:  # no image was found, as in a web page
                container.close()
                raise
            self.format = _RAW_MJPEG
            return container

    # -- reading

    def _store_sender_time(self, packet: Packet[VideoStream], arrival_ns: int) -> None:
        """Keeps the sender's wall-clock time of a packet, on the host's monotonic timeline, for its frame."""
        if packet.pts is None or not packet.has_sidedata("prft"):
            return
        (wall_us,) = _PRFT.unpack_from(bytes(packet.get_sidedata("prft")))
        self._sender_ns[packet.pts] = wall_us * 1000 - time.time_ns() + time.monotonic_ns()
        while len(self._sender_ns) > _MAX_SENDER_TIMES:
            self._sender_ns.popitem(last=False)

    def _decoded(self, packet: Packet[VideoStream], arrival_ns: int) -> Iterator[Frame | UnreadableFrame]:
        try:
            if self._one_image:  # of a truncated image FFmpeg decodes what there is
                image_files.check_complete(bytes(packet))
            av_frames = self._decoder.decode(packet)
        except image_files.UnreadableImage as error:
            self.damaged += 1
            yield self._unreadable(str(error), arrival_ns)
            return
        except av.FFmpegError as error:
            self.damaged += 1
            yield self._unreadable(error.strerror or type(error).__name__, arrival_ns)
            return
        except HardwareDecoderError as error:
            raise LiveError(self._label, Cause.CODEC, str(error)) from error
        for av_frame in av_frames:
            if not isinstance(av_frame, VideoFrame) or (av_frame.pts is None and not self._timeless):
                continue  # RTP frames before the first timestamp of the session: their time is unknown
            if av_frame.is_corrupt:
                self.damaged += 1
            if av_frame.is_corrupt and self._options.damaged == "drop":
                yield self._unreadable("corrupt frame", arrival_ns)
            else:
                yield self._frame(av_frame, arrival_ns)

    def _unreadable(self, reason: str, arrival_ns: int) -> UnreadableFrame:
        self.index += 1
        return UnreadableFrame(self._band, self.index - 1, reason, None, arrival_ns=arrival_ns)

    def _frame(self, av_frame: VideoFrame, arrival_ns: int) -> Frame:
        time_base = exact(av_frame.time_base) or Fraction(1, 90_000)
        pts = av_frame.pts if av_frame.pts is not None else 0
        stamp, capture_ns = self._stamp(av_frame, pts, round(pts * time_base * S), arrival_ns)
        try:
            if self._options.yuyv_counts:
                av_frame = packed_counts(av_frame)
            planes, matrix = upright_planes(av_frame, self._band, self._count_range, reframing=self._reframing)
        except CropError as error:
            raise LiveError(self._label, Cause.SIZE, str(error)) from error
        except NotPackedError as error:
            raise LiveError(self._label, Cause.FORMAT, str(error)) from error
        if self._colour is None:
            self._colour = colour_of(av_frame, self._reframing)
            self._levels = counts_of(av_frame, swap_bytes=False, reframing=self._reframing)
            self._telemetry_problem = telemetry_problem(av_frame, self._reframing, swap_bytes=False)
        self.index += 1
        return Frame(
            band=self._band,
            planes=planes,
            index=self.index - 1,
            capture_ns=capture_ns,
            pts=pts,
            time_base=time_base,
            camera=self._camera,
            stream_id=self._stream_id,
            arrival_ns=arrival_ns,
            matrix=matrix,
            pixel_aspect=self._pixel_aspect,
            stamp=stamp,
            radiometry=self._radiometry,
            telemetry=telemetry_of(av_frame, self._reframing, swap_bytes=False),
        )

    def _stamp(self, av_frame: VideoFrame, pts: int, media_ns: int, arrival_ns: int) -> tuple[Stamp, int]:
        key_frame = bool(av_frame.key_frame)
        if self._timeless:
            begun_ns = self._before_ns if self._late_image else arrival_ns
            return Stamp("arrival", self._epoch, key_frame=key_frame), begun_ns
        if self._device and abs(arrival_ns - media_ns) < _KERNEL_AGE_NS:
            return Stamp("kernel", self._epoch, key_frame=key_frame), media_ns
        return Stamp("media", self._epoch, self._sender_ns.pop(pts, None), key_frame), media_ns
