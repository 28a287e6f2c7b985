"""A sink that calls a function of the program with each frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fusepipe.core.frames import FusedFrame
from fusepipe.pipeline.sinks.base import SinkReport


class CallbackSink:
    """Calls ``on_frame`` with each frame, in the sink's thread; an exception of it ends the run and is raised there."""

    def __init__(self, on_frame: Callable[[FusedFrame], object]) -> None:
        self._on_frame = on_frame
        self._frames = 0
        self.label = f"{getattr(on_frame, '__qualname__', type(on_frame).__qualname__)}()"

    @property
    def outputs(self) -> list[Path]:
        return []

    def check(self) -> None:
        """Never fails."""

    def write(self, frame: FusedFrame) -> None:
        self._on_frame(frame)
        self._frames += 1

    def close(self) -> SinkReport:
        return SinkReport(self.label, self._frames, 0)
