"""A sink that only counts: for measuring the pipeline in front of it."""

from __future__ import annotations

from pathlib import Path

from fusepipe.core.frames import FusedFrame
from fusepipe.pipeline.sinks.base import SinkReport


class NullSink:
    """Counts frames and keeps nothing; see :class:`fusepipe.pipeline.sinks.base.Sink` for the contract."""

    label = "nowhere (frames are counted)"

    def __init__(self) -> None:
        self.frames = 0

    @property
    def outputs(self) -> list[Path]:
        return []

    def check(self) -> None:
        """There is nothing that could be refused."""

    def write(self, frame: FusedFrame) -> None:
        self.frames += 1

    def close(self) -> SinkReport:
        return SinkReport(self.label, self.frames, 0)
