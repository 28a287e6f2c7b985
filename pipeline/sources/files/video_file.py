"""Video files through PyAV: any codec that FFmpeg decodes; luma is taken directly from the decoder's plane."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fusepipe.core.counts import ByteOrder
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.core.image_pages import is_png
from fusepipe.core.infrared_tag import TAG, InfraredTag, infrared_tag
from fusepipe.core.radiometry import Radiometry
from fusepipe.core.units import S
from fusepipe.pipeline.sources.av_input import exact, open_input
from fusepipe.pipeline.sources.base import DEFAULT_FPS, ClockKind, Overflow, SourceInfo
from fusepipe.pipeline.sources.decoders.kinds import SOFTWARE, DecoderChoice
from fusepipe.pipeline.sources.decoders.stream_decoder import StreamDecoder
from fusepipe.pipeline.sources.files.frame_numbers import FrameNumbers
from fusepipe.pipeline.sources.files.frame_rate import exact_rate
from fusepipe.pipeline.sources.files.incomplete import EarlyEnd, why_unreadable
from fusepipe.pipeline.sources.files.lost_packets import LostPackets
from fusepipe.pipeline.sources.files.sei import SeiFilter
from fusepipe.pipeline.sources.files.slice_checksums import SliceChecksums
from fusepipe.pipeline.sources.files.undecoded import INDEPENDENT_CODECS, UndecodedFrames
from fusepipe.pipeline.sources.reframing import AS_IT_IS, CropError, Reframing
from fusepipe.pipeline.sources.streams import infrared_tracks, stream_list, video_streams
from fusepipe.pipeline.sources.video_planes import (
    NotPackedError,
    colour_of,
    counts_of,
    display_orientation,
    hdr_transfer,
    is_16_bit_grey,
    is_grey,
    packed_counts,
    telemetry_of,
    telemetry_problem,
    upright_planes,
)

MAX_CONSECUTIVE_ERRORS = 250  # consecutive undecodable packets after which a file is rejected
# HLS, FFmpeg concat scripts, SDP and DASH: text files that make FFmpeg open other files
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD")
# containers whose timestamps start anywhere; in others the start time is significant for pairing
_ARBITRARY_START = frozenset({"mpegts", "mpeg"})


class VideoFileSource:
    """Frames of one video stream of a file, with its presentation timestamps.

    ``stream`` is the index of the stream in the container, as ffprobe shows it; ``None`` is the first video stream.
    ``fps`` replaces the timestamps by index / fps. ``count_range`` maps visible frames of a higher bit depth to 8 bit.
    Of an infrared recording of fusepipe the frames are as the camera's source gave them: their times, bit depth and
    ``radiometry``, unless that is given.
    ``swap_bytes`` exchanges the bytes of 16-bit grey samples, ``yuyv_counts`` takes packed video as such samples.
    ``reframing`` is applied to each image. ``decoder`` decodes the frames; size and format are read from the first one
    in software.
    """

    clock: ClockKind = "media"
    overflow = Overflow.BLOCK

    def __init__(
        self,
        path: Path,
        band: Band,
        *,
        stream: int | None = None,
        fps: float | None = None,
        count_range: tuple[int, int] | None = None,
        swap_bytes: bool = False,
        yuyv_counts: bool = False,
        reframing: Reframing = AS_IT_IS,
        decoder: DecoderChoice = SOFTWARE,
        radiometry: Radiometry | None = None,
        camera: str = "",
        stream_id: str = "",
    ) -> None:
        self.band = band
        self._path, self._stream_index = path, stream
        self._forced_fps = exact_rate(fps) if fps else None
        self._count_range, self._swap_bytes, self._yuyv_counts = count_range, swap_bytes, yuyv_counts
        self._reframing, self._radiometry = reframing, radiometry
        self._decoder = decoder
        self._camera = camera
        self._stream_id = stream_id
        self._container: InputContainer | None = None
        self._zero = Fraction(0)
        self._fps: Fraction | None = None
        self._timeless = False
        self._numbered = False
        self._pixel_aspect = Fraction(1)
        self._tag: InfraredTag | None = None

    @property
    def label(self) -> str:
        return str(self._path) if self._stream_index is None else f"{self._path}?stream={self._stream_index}"

    @property
    def files(self) -> list[Path]:
        """The file it reads."""
        return [self._path]

    @property
    def identity(self) -> int:
        """The index of the stream that is read; -1 before it is opened."""
        return -1 if self._container is None else self._video_stream(self._container).index

    def open(self) -> SourceInfo:
        first = self._first_frame()  # size and rotation in the header may differ from those of the frames
        container = self._container = self._open_container()
        stream = self._video_stream(container)
        self._zero = self._first_time(container)
        tag_problem = self._read_tag(stream.metadata.get(TAG) or container.metadata.get(TAG), first)
        rate = exact(stream.average_rate) or exact(stream.guessed_rate)
        self._fps = self._forced_fps or rate
        # AVI has no timestamps, only a rate and numbered frames; raw streams have neither
        self._numbered = "avi" in container.format.name
        self._timeless = self._forced_fps is not None or self._numbered or first.pts is None
        turned = display_orientation(first).transposed
        self._pixel_aspect = exact(stream.sample_aspect_ratio) or Fraction(1)
        if turned != self._reframing.orientation.transposed:
            self._pixel_aspect = 1 / self._pixel_aspect
        try:
            size = self._reframing.size((first.height, first.width) if turned else (first.width, first.height))
        except CropError as error:
            raise SourceError(f"{self.label}: {error}") from error
        problem = telemetry_problem(first, self._reframing, swap_bytes=self._swap_bytes)
        notes = [text for text in (tag_problem, problem) if text]
        streams = video_streams(container)
        if self._stream_index is None and len(streams) > 1 and not infrared_tracks(streams):
            notes.append(
                f"has {len(streams)} video streams: {stream_list(streams)}; stream {stream.index} is used: add "
                f"?stream={streams[1].index} to the name to choose another"
            )
        if first.interlaced_frame:
            notes.append("is interlaced; deinterlace it first to avoid combing artefacts")
        if self.band is Band.VISIBLE and (transfer := hdr_transfer(first)) is not None:
            notes.append(f"is HDR ({transfer}); its tones are mapped to the standard range (BT.709)")
        if self._timeless and self._forced_fps is None:
            notes.append(f"has no timestamps; assuming {float(self._fps or DEFAULT_FPS):g} fps (set fps to change it)")
        return SourceInfo(
            width=size[0],
            height=size[1],
            fps=float(self._fps) if self._fps else None,
            frames=stream.frames or None,
            grey=is_grey(first.format),
            bit_depth=first.format.components[0].bits if self._tag is None else self._tag.bit_depth,
            codec=stream.codec_context.name,
            start_ns=0 if first.pts is None or self._timeless else self._time_ns(first.pts, exact(first.time_base)),
            notes=tuple(notes),
            levels=counts_of(first, swap_bytes=self._swap_bytes, reframing=self._reframing),
            timed=not self._timeless,
            colour=colour_of(first, self._reframing),
            byte_order=self._byte_order() if is_16_bit_grey(first.format) else None,
            radiometry=self._radiometry,
        )

    def _read_tag(self, text: str | None, first: VideoFrame) -> str:
        """Reads the tag of an infrared recording, if it is one; returns a note for the user where that fails."""
        if text is None or self.band is Band.VISIBLE:
            return ""
        try:
            tag = infrared_tag(text)
            if (tag.bit_depth > 8) != (first.format.components[0].bits > 8):
                raise ValueError(f"{tag.bit_depth} bits of counts are not in {first.format.name}")
        except ValueError as error:
            return f"is an infrared recording, read as any other video: {error}"
        self._tag = tag
        self._radiometry = self._radiometry or tag.radiometry
        self._zero -= Fraction(tag.origin_ns or 0, S)
        return ""

    def _byte_order(self) -> ByteOrder:
        """The order in which 16-bit samples are read."""
        return "big" if is_png(self._path) != self._swap_bytes else "little"

    def _open_container(self) -> InputContainer:
        path = self._path.absolute()  # so that a name cannot be taken for a protocol such as concat: or http:
        try:
            with path.open("rb") as file:
                if file.read(16).lstrip().startswith(_PLAYLISTS):
                    raise SourceError(f"{path}: is a playlist; specify one of its files")
            container = open_input(str(path), options={"protocol_whitelist": "file"})
        except FileNotFoundError as error:
            raise SourceError(f"{path}: no such file or folder") from error
        except PermissionError as error:
            raise SourceError(f"{path}: cannot be read: permission denied") from error
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{path}: {why_unreadable(path, error.strerror)}") from error
        try:
            stream = self._video_stream(container)
        except SourceError:
            container.close()
            raise
        # One thread: frame threading reports corruption with a later packet, slice threading not at all. Each source
        # has its own thread, and decoding 1080p takes one core a few ms.
        stream.codec_context.thread_count = 1
        # a damaged packet is a counted error instead of a frame with artefacts
        stream.codec_context.options = {"err_detect": "explode"}
        return container

    def _video_stream(self, container: InputContainer) -> VideoStream:
        """The stream that is read. Raises :class:`SourceError`."""
        streams = video_streams(container)
        if not streams:
            raise SourceError(f"{self._path}: has no video stream")
        if self._stream_index is None:
            tracks = infrared_tracks(streams) if self.band is Band.INFRARED else []
            return (tracks or streams)[0]
        for stream in streams:
            if stream.index == self._stream_index:
                return stream
        raise SourceError(
            f"{self._path}: stream {self._stream_index} is not a video stream; it has {stream_list(streams)}"
        )

    def _first_frame(self) -> VideoFrame:
        """The first frame that can be decoded, read through a separate container."""
        with self._open_container() as container:
            stream = self._video_stream(container)
            codec, extradata = stream.codec_context.name, stream.codec_context.extradata
            sei, checksums = SeiFilter(codec, extradata), SliceChecksums(codec, extradata)
            packets = container.demux(stream)
            errors = 0
            while errors <= MAX_CONSECUTIVE_ERRORS:
                try:
                    packet = next(packets, None)
                except av.FFmpegError:
                    break  # the demuxer cannot continue
                if packet is None:
                    break
                try:
                    checksums.check(packet)
                    for av_frame in sei.decode(packet, Packet.decode):
                        return packed_counts(av_frame) if self._yuyv_counts else av_frame
                except NotPackedError as error:
                    raise SourceError(f"{self.label}: {error}") from error
                except av.FFmpegError:
                    errors += 1  # damage at the start is counted while reading
        raise SourceError(f"{self._path}: no frame of its {codec} stream can be decoded")

    @property
    def origin_ns(self) -> int:
        """The capture time at presentation time 0 of an infrared recording, else 0; known after :meth:`open`."""
        return 0 if self._tag is None else self._tag.origin_ns or 0

    def seek(self, capture_ns: int) -> None:
        """Makes :meth:`frames` begin with the key frame before this capture time, where the file has an index."""
        if self._container is None or self._timeless:
            return
        stream = self._video_stream(self._container)
        seconds = Fraction(capture_ns, S) + self._zero
        with suppress(av.FFmpegError):  # from the beginning then
            self._container.seek(max(0, int(seconds / (exact(stream.time_base) or 1))), stream=stream)

    def packet_times(self) -> list[tuple[int, bool]] | None:
        """The capture time of each frame, in the order of the file, and whether it is a key frame; decodes nothing.

        ``None`` where frames have no times of their own. Reads the file to its end: open it again for its frames.
        """
        if self._container is None or self._timeless:
            return None
        times: list[tuple[int, bool]] = []
        stream = self._video_stream(self._container)
        for packet in self._container.demux(stream):
            if packet.size == 0 or packet.is_discard:  # the end; or cut off by an edit list
                continue
            if packet.pts is None:
                return None
            times.append((self._time_ns(packet.pts, exact(stream.time_base)), packet.is_keyframe))
        return times

    def undecoded(self) -> UndecodedFrames | None:
        """The frames, to be decoded on demand; ``None`` where that cannot be. Holds where all packets are key frames.

        Reads the file to its end, as :meth:`frames` does.
        """
        elsewhere = self._decoder.hardware is not None or self._reframing.telemetry is not None
        if self._container is None or self._timeless or elsewhere:
            return None
        stream = self._video_stream(self._container)
        if stream.codec_context.name not in INDEPENDENT_CODECS:
            return None
        packets = self._container.demux(stream)
        return UndecodedFrames(packets, stream, self.band, self._time_ns, lambda image, at: self._frame(image, at, at))

    def frames(self, stop: threading.Event) -> Generator[Frame | UnreadableFrame]:
        container = self._container
        if container is None:
            raise SourceError(f"{self._path}: not open")
        stream = self._video_stream(container)
        codec, extradata = stream.codec_context.name, stream.codec_context.extradata
        sei, checksums = SeiFilter(codec, extradata), SliceChecksums(codec, extradata)
        numbers = FrameNumbers(reorders=lambda: stream.codec_context.has_b_frames) if self._numbered else None
        decoder = StreamDecoder(stream, self._decoder, self.label)
        end, lost = EarlyEnd(self._path, container, stream), LostPackets(container, stream)
        index = errors = 0
        packets = container.demux(stream)
        while not stop.is_set():
            packet = None
            try:
                packet = next(packets, None)
                if packet is None:
                    for number, reason in enumerate(filter(None, (lost.reason(), end.reason())), index):
                        yield UnreadableFrame(self.band, number, reason, arrival_ns=time.monotonic_ns())
                    return
                if numbers is not None:
                    numbers.packet(packet.dts)
                end.packet(packet)
                lost.packet(packet)
                checksums.check(packet)
                decoded = sei.decode(packet, decoder.decode)
            except av.FFmpegError as error:
                errors += 1
                if errors > MAX_CONSECUTIVE_ERRORS:
                    raise SourceError(f"{self._path}: decoding fails after frame {index}: {error.strerror}") from error
                capture_ns = None
                if self._timeless:
                    capture_ns = self._nominal_ns(index if numbers is None else numbers.next())
                elif packet is not None and packet.pts is not None:
                    capture_ns = self._time_ns(packet.pts, exact(stream.time_base))
                reason = error.strerror or type(error).__name__
                yield UnreadableFrame(self.band, index, reason, capture_ns, arrival_ns=time.monotonic_ns())
                index += 1
                if packet is None and errors > 1:
                    return  # the demuxer cannot continue
                continue
            for av_frame in decoded:
                errors = 0
                yield self._frame(av_frame, index, index if numbers is None else numbers.next())
                index += 1

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _first_time(self, container: InputContainer) -> Fraction:
        if container.format.name.split(",")[0] in _ARBITRARY_START and container.start_time is not None:
            return Fraction(container.start_time, av.time_base)
        return Fraction(0)

    def _time_ns(self, pts: int, time_base: Fraction | None) -> int:
        return round((pts * (time_base or Fraction(1, 1000)) - self._zero) * S)

    def _nominal_ns(self, number: int) -> int:
        return round(number * S / (self._fps or DEFAULT_FPS))

    def _frame(self, av_frame: VideoFrame, index: int, number: int) -> Frame | UnreadableFrame:
        time_base = exact(av_frame.time_base) or Fraction(1, 1000)
        if av_frame.pts is not None and not self._timeless:
            pts, capture_ns = av_frame.pts, self._time_ns(av_frame.pts, time_base)
        else:  # from the nominal rate; decoders output frames in presentation order
            capture_ns = self._nominal_ns(number)
            pts = round(Fraction(capture_ns, S) / time_base)
        if av_frame.is_corrupt:
            reason = "corrupt frame"
            return UnreadableFrame(self.band, index, reason, capture_ns, arrival_ns=time.monotonic_ns())
        try:
            if self._yuyv_counts:
                av_frame = packed_counts(av_frame)
            planes, matrix = upright_planes(
                av_frame, self.band, self._count_range, swap_bytes=self._swap_bytes, reframing=self._reframing
            )
        except (CropError, NotPackedError) as error:
            return UnreadableFrame(self.band, index, str(error), capture_ns, arrival_ns=time.monotonic_ns())
        if self._tag is not None:
            planes = (self._tag.plane(planes[0]),)
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
            matrix=matrix,
            pixel_aspect=self._pixel_aspect,
            radiometry=self._radiometry,
            telemetry=telemetry_of(av_frame, self._reframing, swap_bytes=self._swap_bytes),
        )
