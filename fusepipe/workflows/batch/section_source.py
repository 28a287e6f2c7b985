"""A camera's file from a key frame on, and the sink of what is made of it."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fusepipe.core.frames import Band, Frame, FusedFrame, UnreadableFrame
from fusepipe.core.units import S
from fusepipe.pipeline.sinks.base import Sink, SinkReport
from fusepipe.pipeline.sinks.files.infrared import InfraredSink
from fusepipe.pipeline.sinks.files.video import VideoSink
from fusepipe.pipeline.sinks.files.video_with_sidecar import VideoWithSidecar
from fusepipe.pipeline.sources.base import ClockKind, Overflow, SourceInfo
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.workflows.batch.segment_plan import CannotSplitError, Section

_SEEK_PAST_NS = 1000  # so that rounding does not lead to the key frame before
# Reading begins with the key frame, or that much before it: where key frames are no whole images (open groups of
# pictures, intra refresh), or the file has no index of them (MPEG-TS)
_EARLIER_NS = (0, 1 * S, 5 * S, 30 * S)


class SectionSource:
    """The frames of a file from the key frame at ``from_ns`` on (``None``: all), with the times of the whole file.

    ``number`` is that of this frame in the file, from which on they are counted. ``unreadable`` are the numbers of
    those that could not be decoded, some maybe of sections before or after it.
    """

    clock: ClockKind = "media"
    overflow = Overflow.BLOCK

    def __init__(self, source: VideoFileSource, from_ns: int | None, number: int = 0) -> None:
        self._source, self._from_ns, self._number = source, from_ns, number
        self.band: Band = source.band
        self.unreadable: list[int] = []

    @property
    def label(self) -> str:
        return self._source.label

    @property
    def files(self) -> Sequence[Path]:
        """The file it reads."""
        return self._source.files

    @property
    def identity(self) -> int:
        """See :class:`VideoFileSource`."""
        return self._source.identity

    def open(self) -> SourceInfo:
        return self._source.open()

    def frames(self, stop: threading.Event) -> Iterator[Frame | UnreadableFrame]:
        """Raises :class:`CannotSplitError` where the file does not let read from that frame on."""
        for item in self._items(stop):
            if isinstance(item, UnreadableFrame):
                self.unreadable.append(item.index)
            yield item

    def _items(self, stop: threading.Event) -> Iterator[Frame | UnreadableFrame]:
        from_ns = self._from_ns
        if from_ns is None:
            yield from self._source.frames(stop)
            return
        for earlier_ns in _EARLIER_NS:
            self._source.seek(max(0, from_ns - earlier_ns) + _SEEK_PAST_NS)
            items = self._source.frames(stop)
            first = next((item for item in items if item.capture_ns is not None and item.capture_ns >= from_ns), None)
            if stop.is_set():
                return
            if isinstance(first, Frame) and first.capture_ns == from_ns:
                skipped = self._number - first.index
                yield replace(first, index=self._number)
                for item in items:
                    yield replace(item, index=item.index + skipped)
                return
            items.close()
        raise CannotSplitError(f"{self.label}: cannot be read from its key frame at {from_ns / 1e9:.3f} s on")

    def close(self) -> None:
        self._source.close()


class SectionSink:
    """Writes the frames of a section. The one before it is not written: it leaves its hash, to check the seam by.

    ``captures`` are the capture times of the frames that are in the file, ``track`` those of the infrared frames that
    were written with each (a file with an infrared track). ``states`` counts the frames of the section by state,
    ``before`` and ``last`` are hashes of the frame before the section and of the one at ``seam_ns``, which is before
    the next section; ``last_ns`` is the time of the last frame.
    """

    def __init__(self, sink: Sink, section: Section, *, tracked: bool, seam_ns: int | None = None) -> None:
        self._sink, self._section, self._seam_ns = sink, section, seam_ns
        self._video: InfraredSink | VideoSink | None = _video_of(sink)
        self._tracked = tracked
        self.captures: list[int] = []
        self.track: list[int | None] = []
        self.states: Counter[str] = Counter()
        self.before = self.last = ""
        self.last_ns: int | None = None
        self.origin_ns: int | None = None

    @property
    def label(self) -> str:
        return self._sink.label

    @property
    def outputs(self) -> Sequence[Path]:
        return self._sink.outputs

    def check(self) -> None:
        self._sink.check()

    def write(self, frame: FusedFrame) -> None:
        video = self._video
        if self._section.begin_ns is not None and frame.capture_ns < self._section.begin_ns:
            self.before = _digest(frame)
            if video is not None:
                video.pass_over(frame)
            return
        self._sink.write(frame)
        self.states[str(frame.state)] += 1
        self.last_ns = frame.capture_ns
        self.last = _digest(frame) if self.last_ns == self._seam_ns else ""
        if isinstance(video, InfraredSink):
            self.captures += [] if video.recorded_ns is None else [video.recorded_ns]
            return
        self.captures.append(frame.capture_ns)
        if self._tracked and video is not None:
            self.track.append(video.recorded_ns)

    def close(self) -> SinkReport:
        video = self._video.recording if isinstance(self._video, InfraredSink) else self._video
        if isinstance(video, VideoWithSidecar):
            video = video.video
        if isinstance(video, VideoSink):
            self.origin_ns = video.first_ns
        return self._sink.close()


def _video_of(sink: Sink) -> InfraredSink | VideoSink | None:
    if isinstance(sink, InfraredSink | VideoSink):
        return sink
    return sink.video if isinstance(sink, VideoWithSidecar) else None


def _digest(frame: FusedFrame) -> str:
    """A hash of the times, the state and the pixels of a frame, and of which frames of the cameras it was made."""
    cameras = [None if one is None else one.exposed for one in (frame.pair.infrared, frame.pair.visible)]
    digest = hashlib.blake2b(f"{frame.capture_ns} {frame.state} {cameras}".encode(), digest_size=16)
    for plane in frame.planes:
        digest.update(f"{plane.pixels.shape} {plane.pixels.dtype} {plane.value_range}".encode())
        digest.update(plane.pixels.tobytes())
    return digest.hexdigest()
