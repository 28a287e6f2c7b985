"""A sink that counts frames and writes nothing, for benchmarks of the pipeline before it."""

from __future__ import annotations

from pathlib import Path

from fusepipe.core.frames import FusedFrame
from fusepipe.pipeline.sinks.base import SinkReport


class NullSink:
    """Counts frames; meets the contract of :class:`fusepipe.pipeline.sinks.base.Sink`."""

    label = "nowhere (frames are counted)"

    def __init__(self) -> None:
        self.frames = 0

    @property
    def outputs(self) -> list[Path]:
        return []

    def check(self) -> None:
        """Never fails."""

    def write(self, frame: FusedFrame) -> None:
        self.frames += 1

    def close(self) -> SinkReport:
        return SinkReport(self.label, self.frames, 0)
