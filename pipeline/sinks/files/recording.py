"""A recording in segments: a new file by time or size, each playable alone, the oldest deleted as the rules say.

Each segment has an encoder of its own and so starts with a key frame, at time 0; where it lies in time is in its
name, its sidecar and, live, its ``creation_time``. What a segment holds survives a kill as any video does
(:mod:`fusepipe.pipeline.sinks.files.video`).
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
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.files.retention import Bounds, Retention, free_bytes
from fusepipe.pipeline.sinks.files.sidecar import Wall, utc_text
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sinks.files.video_with_sidecar import Engine, VideoWithSidecar

log = logging.getLogger(__name__)

LEAST_FREE_BYTES = 512 * 1024  # with less than this no file is begun
RESERVE_FLUSHES = 4  # live: room for so many flush intervals is made before the disk is full
S = 1_000_000_000
NO_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class RecordingRules:
    """When a segment ends (``None``: not for that reason), and what is kept of the ended ones."""

    segment_ns: int | None = None
    segment_bytes: int | None = None
    bounds: Bounds = NO_BOUNDS


def wall_ns() -> int:
    """UNIX time minus the host's monotonic clock, now."""
    return time.time_ns() - time.monotonic_ns()


class RecordingSink:
    """``rules`` may be replaced by any thread while it runs: the next frame is written by the new ones.

    ``live`` says that capture times are of the host's monotonic clock; only then segments are named by when their
    first frame was captured, and deleted where the disk is full: a recording that is
    converted can be converted again, so a full disk ends it.
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
        self._began_ns = self._kept_ns = 0  # capture times
        self._first: str = ""
        self._last: str = ""
        self._segments = self._frames = self._bytes = 0
        self._report: SinkReport | None = None

    @property
    def label(self) -> str:
        return self._names.pattern

    @property
    def outputs(self) -> list[Path]:
        """Where it deletes, no recording that the rig reads may be; what it writes is new."""
        return self._names.folders() if self.rules.bounds.any else []

    def check(self) -> None:
        path = next(self._names.paths(time.time_ns()))
        with suppress(OutputExistsError):  # another name will do
            self._made(path, 0)[1].check()

    def write(self, frame: FusedFrame) -> None:
        try:
            if self._current is not None and self._ends(self._current, frame):
                self._finish()
            self._write(frame)
        except DiskFullError:
            if not self._may_delete or self._free_after_deleting() < self._reserve():
                raise
            self._finish()
            self._write(frame)  # anew: a file that met the end of the disk is torn there
        self._frames += 1
        self._keep_rules(frame)

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
            (rules.segment_ns is not None and frame.capture_ns - self._began_ns >= rules.segment_ns)
            or (rules.segment_bytes is not None and current.encoded_bytes >= rules.segment_bytes)
            or current.size != (frame.width, frame.height)
        )

    def _write(self, frame: FusedFrame) -> None:
        if self._writer is None:
            self._begin(frame)
        else:
            self._writer.write(frame)

    def _begin(self, frame: FusedFrame) -> None:
        """Writes the first frame of a new segment, under the first name that is free."""
        self._require_room()
        begun_ns = frame.capture_ns + wall_ns() if self._live else time.time_ns()
        for path in self._names.paths(begun_ns):
            video, writer = self._made(path, begun_ns)
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
            self._began_ns = self._kept_ns = frame.capture_ns
            self._segments += 1
            self._first, self._last = self._first or path.name, path.name
            self._retention.look(path)
            self._retention.enforce(self.rules.bounds, open_bytes=video.encoded_bytes)
            return
        raise SinkError(f"{self.label}: there are too many files of one name; use a name with %S")

    def _made(self, path: Path, begun_ns: int) -> tuple[VideoSink, VideoSink | VideoWithSidecar]:
        begun = utc_text(begun_ns) if self._live else None
        video = VideoSink(path, self._video, fps=self._fps, begun=begun)
        if not self._sidecar:
            return video, video
        wall: Wall | None = wall_ns if self._live else None
        flush_ns = self._video.flush_ns
        return video, VideoWithSidecar(path, video, engine=self._engine, wall=wall, flush_ns=flush_ns)

    def _finish(self) -> None:
        if self._writer is not None and self._may_delete:
            self._retention.make_room(self._reserve())  # for what is still in memory
        writer, self._writer, self._current, self._path = self._writer, None, None, None
        if writer is not None:
            self._bytes += writer.close().bytes

    # -- what is kept

    @property
    def _may_delete(self) -> bool:
        return self._live and self.rules.bounds.any

    def _keep_rules(self, frame: FusedFrame) -> None:
        """Once a flush interval: deletes what is too old or too much, and, live, makes room in time."""
        if frame.capture_ns - self._kept_ns < self._video.flush_ns or self._current is None:
            return
        self._kept_ns = frame.capture_ns
        self._retention.enforce(self.rules.bounds, open_bytes=self._current.encoded_bytes)
        if self._may_delete:
            self._retention.make_room(self._reserve())

    def _reserve(self) -> int:
        """What the next few flush intervals will take, as the open segment went so far."""
        if self._current is None:
            return LEAST_FREE_BYTES
        seconds = max(1.0, self._current.pts_s)
        flush_bytes = self._current.encoded_bytes / seconds * self._video.flush_ns / S
        return max(LEAST_FREE_BYTES, round(RESERVE_FLUSHES * flush_bytes))

    def _free_after_deleting(self) -> int:
        self._retention.look(self._path)
        self._retention.make_room(self._reserve())
        return free_bytes(self._names.folder)

    def _require_room(self) -> None:
        """Raises :class:`DiskFullError` before a file is begun that could not be written."""
        free = self._free_after_deleting() if self._may_delete else free_bytes(self._names.folder)
        if free < LEAST_FREE_BYTES:
            raise DiskFullError(
                f"{self.label}: the disk is full ({free / 1e6:.1f} MB free); nothing is recorded until there is room"
            )

    def _note(self) -> str:
        parts = [f"{self._segments} segment{'s' if self._segments != 1 else ''}, {self._first} to {self._last}"]
        if self._retention.deleted:
            parts.append(f"{self._retention.deleted} old ones deleted ({self._retention.deleted_bytes / 1e6:.1f} MB)")
        return "; ".join(parts) if self._segments else "no frames, no file"
