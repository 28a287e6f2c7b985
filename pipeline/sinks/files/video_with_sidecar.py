"""A video file and its sidecar, written and finalised together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import FusedFrame
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.files.partial_file import write_error
from fusepipe.pipeline.sinks.files.sidecar import Sidecar, WallOffset, sidecar_line
from fusepipe.pipeline.sinks.files.video import VideoSink

Engine = Callable[[], Mapping[str, Any]]


class VideoWithSidecar:
    """Meets the contract of a sink. ``engine`` returns properties of the fusion engine.

    ``synced`` as of :class:`VideoOptions`.
    """

    def __init__(
        self,
        path: Path,
        video: VideoSink,
        *,
        engine: Engine,
        wall: WallOffset | None,
        flush_ns: int,
        synced: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.video = video
        self._name = path.name
        self._sidecar = Sidecar(path, overwrite=overwrite)
        self._engine, self._wall = engine, wall
        self._flush_ns, self._synced = flush_ns, synced
        self._synced_ns: int | None = None
        self._failed = False
        self._report: SinkReport | None = None

    @property
    def label(self) -> str:
        return self.video.label

    @property
    def outputs(self) -> list[Path]:
        return [*self.video.outputs, self._sidecar.file.path, self._sidecar.file.partial]

    def check(self) -> None:
        self.video.check()
        self._sidecar.check()

    def write(self, frame: FusedFrame) -> None:
        try:
            if not self._sidecar.file.claimed:
                self._sidecar.claim()
            self.video.write(frame)
            line = sidecar_line(
                frame,
                video=self._name,
                number=self._sidecar.lines,
                pts_s=self.video.pts_s,
                wall=self._wall,
                engine=self._engine(),
            )
            self._sidecar.write(line)
            if self._synced and (self._synced_ns is None or frame.capture_ns - self._synced_ns >= self._flush_ns):
                self._synced_ns = frame.capture_ns
                self._sidecar.sync()
        except SinkError:
            self._failed = True
            raise
        except OSError as error:
            self._failed = True
            raise self._problem(error) from error

    def close(self) -> SinkReport:
        if self._report is not None:
            return self._report
        complete = False
        try:
            self._report = self.video.close()
            complete = self._report.frames > 0 and self._report.path == self.video.label
        finally:
            try:
                self._sidecar.close(complete=complete)
            except OSError as error:
                raise self._problem(error) from error
        return self._report

    def _problem(self, error: OSError) -> SinkError:
        return write_error(f"{self._sidecar.file.partial}: cannot be written: {error.strerror or error}", error)
