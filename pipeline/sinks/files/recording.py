"""A segmented recording: a new file by time or size, each playable alone; the oldest are deleted by retention rules.

Each segment has its own encoder and so starts with a key frame at time 0; its start time is in its name, its sidecar
and, live, its ``creation_time``. Segments are crash-safe as any video (:mod:`fusepipe.pipeline.sinks.files.video`).
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusepipe.core.errors import DiskFullError, OutputExistsError, SinkError
from fusepipe.core.frames import FusedFrame
from fusepipe.core.segment_names import SegmentNames
from fusepipe.core.text import counted
from fusepipe.core.units import S
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.files.retention import Bounds, Retention, free_bytes
from fusepipe.pipeline.sinks.files.sidecar import WallOffset, utc_text
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sinks.files.video_with_sidecar import Engine, VideoWithSidecar

log = logging.getLogger(__name__)

MIN_FREE_BYTES = 512 * 1024  # no file is created with less free space
RESERVE_FLUSHES = 4  # live: space for this many flush intervals is kept free by deleting
NO_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class RecordingRules:
    """When a segment ends (``None``: no limit) and which completed segments are kept."""

    segment_ns: int | None = None
    segment_bytes: int | None = None
    bounds: Bounds = NO_BOUNDS


def wall_ns() -> int:
    """UNIX time minus the host's monotonic clock, in nanoseconds."""
    return time.time_ns() - time.monotonic_ns()


class RecordingSink:
    """Writes segments. Any thread may replace ``rules`` while it runs: they apply from the next frame.

    ``live`` means that capture times are on the host's monotonic clock. Only then are segments named by the capture
    time of their first frame, and deleted when the disk is full; a conversion can be repeated, so a full disk ends it.
    """

    def __init__(
        self,
        names: SegmentNames,
        video: VideoOptions,
        rules: RecordingRules,
        *,
        live: bool,
        engine: Engine,
        sidecar: bool = True,
        fps: float | None = None,
    ) -> None:
        self.rules = rules
        self._names = names
        self._video = video
        self._live = live
        self._engine = engine
        self._sidecar = sidecar
        self._fps = fps
        self._retention = Retention(names)
        self._current: VideoSink | None = None
        self._writer: VideoSink | VideoWithSidecar | None = None
        self._path: Path | None = None
        self._start_ns = self._retention_ns = 0  # capture times
        self._first: str = ""
        self._last: str = ""
        self._segments = self._frames = self._bytes = 0  # of closed segments
        self._removed = 0  # segments whose file was removed while it was being written
        self._report: SinkReport | None = None

    @property
    def label(self) -> str:
        return self._names.pattern

    @property
    def outputs(self) -> list[Path]:
        """The folders in which it deletes: they must not contain inputs. Files that it writes are new."""
        return self._names.folders() if self.rules.bounds.any else []

    def check(self) -> None:
        path = next(self._names.paths(time.time_ns()))
        with suppress(OutputExistsError):  # another name is used then
            self._make_segment(path, 0)[1].check()

    def write(self, frame: FusedFrame) -> None:
        try:
            if self._current is not None and self._ends(self._current, frame):
                self._finish()
            self._write(frame)
        except DiskFullError:
            if not self._may_delete or self._free_after_deleting() < self._reserve():
                raise
            self._finish()
            self._write(frame)  # in a new segment: the one on a full disk is truncated
        self._apply_retention(frame)

    def close(self) -> SinkReport:
        if self._report is not None:
            return self._report
        try:
            self._finish()
        finally:
            self._report = SinkReport(self.label, self._frames, self._bytes, self._note())
        return self._report

    # -- segments

    def _ends(self, current: VideoSink, frame: FusedFrame) -> bool:
        rules = self.rules
        return (
            (rules.segment_ns is not None and frame.capture_ns - self._start_ns >= rules.segment_ns)
            or (rules.segment_bytes is not None and current.encoded_bytes >= rules.segment_bytes)
            or current.size != (frame.width, frame.height)
        )

    def _write(self, frame: FusedFrame) -> None:
        if self._writer is None:
            self._begin(frame)
        else:
            self._writer.write(frame)

    def _begin(self, frame: FusedFrame) -> None:
        """Writes the first frame of a new segment, under the first unused name."""
        self._require_space()
        start_ns = frame.capture_ns + wall_ns() if self._live else time.time_ns()
        for path in self._names.paths(start_ns):
            video, writer = self._make_segment(path, start_ns)
            try:
                writer.check()
                writer.write(frame)
            except OutputExistsError:
                writer.close()
                continue
            except SinkError:
                writer.close()
                raise
            self._current, self._writer, self._path = video, writer, path
            self._start_ns = self._retention_ns = frame.capture_ns
            self._retention.scan(path)
            self._retention.enforce(self.rules.bounds, open_bytes=video.encoded_bytes)
            return
        raise SinkError(f"{self.label}: too many files of the same name; use a pattern with %S")

    def _make_segment(self, path: Path, start_ns: int) -> tuple[VideoSink, VideoSink | VideoWithSidecar]:
        creation_time = utc_text(start_ns) if self._live else None
        video = VideoSink(path, self._video, fps=self._fps, creation_time=creation_time)
        if not self._sidecar:
            return video, video
        wall: WallOffset | None = wall_ns if self._live else None
        flush_ns = self._video.flush_ns
        return video, VideoWithSidecar(path, video, engine=self._engine, wall=wall, flush_ns=flush_ns)

    def _finish(self) -> None:
        if self._writer is not None and self._may_delete:
            self._retention.free_space(self._reserve())  # for frames still in memory
        writer, path, self._writer, self._current, self._path = self._writer, self._path, None, None, None
        if writer is None or path is None:
            return
        try:
            writer.close()
        finally:
            self._count(path, writer.close())  # which returns the same report

    def _count(self, path: Path, closed: SinkReport) -> None:
        """Adds a closed segment to the report, unless its file was removed while it was being written."""
        if not closed.frames:
            self._removed += 1
            return
        self._segments += 1
        self._frames += closed.frames
        self._bytes += closed.bytes
        self._first, self._last = self._first or path.name, path.name

    # -- retention

    @property
    def _may_delete(self) -> bool:
        return self._live and self.rules.bounds.any

    def _apply_retention(self, frame: FusedFrame) -> None:
        """Once per flush interval: deletes segments by the rules and, live, frees space in advance."""
        if frame.capture_ns - self._retention_ns < self._video.flush_ns or self._current is None:
            return
        self._retention_ns = frame.capture_ns
        self._retention.enforce(self.rules.bounds, open_bytes=self._current.encoded_bytes)
        if self._may_delete:
            self._retention.free_space(self._reserve())

    def _reserve(self) -> int:
        """The size of the next few flush intervals, estimated from the open segment."""
        if self._current is None:
            return MIN_FREE_BYTES
        seconds = max(1.0, self._current.pts_s)
        flush_bytes = self._current.encoded_bytes / seconds * self._video.flush_ns / S
        return max(MIN_FREE_BYTES, round(RESERVE_FLUSHES * flush_bytes))

    def _free_after_deleting(self) -> int:
        self._retention.scan(self._path)
        self._retention.free_space(self._reserve())
        return free_bytes(self._names.folder)

    def _require_space(self) -> None:
        """Raises :class:`DiskFullError` instead of creating a file that could not be written."""
        free = self._free_after_deleting() if self._may_delete else free_bytes(self._names.folder)
        if free < MIN_FREE_BYTES:
            raise DiskFullError(
                f"{self.label}: the disk is full ({free / 1e6:.1f} MB free); recording resumes when space is available"
            )

    def _note(self) -> str:
        parts = [f"{counted(self._segments, 'segment')}, {self._first} to {self._last}"] if self._segments else []
        if self._removed:
            parts.append(f"{counted(self._removed, 'segment')} removed by another program while being written")
        if deleted := self._retention.deleted:
            size_mb = self._retention.deleted_bytes / 1e6
            parts.append(f"{counted(deleted, 'old segment')} deleted ({size_mb:.1f} MB)")
        return "; ".join(parts) or "no frames, no file"
