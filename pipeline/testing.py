"""Test doubles of sources and sinks, for the tests of fusepipe and of programs that embed it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from fusepipe.core.frames import Band, Frame, FusedFrame, Pixels, Plane, UnreadableFrame
from fusepipe.core.units import MS
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sources.base import ClockKind, Overflow, SourceInfo


def frame(
    band: Band,
    index: int,
    capture_ns: int,
    *,
    name: str = "",
    pixels: Pixels | None = None,
    arrival_ns: int | None = None,
    chroma: bool = False,
) -> Frame:
    """A 12x8 frame; all luma pixels have the value ``index`` unless ``pixels`` (HxW) are given."""
    luma = Plane(np.full((8, 12), index % 256, np.uint8) if pixels is None else pixels)
    half = Plane(np.full(((luma.height + 1) // 2, (luma.width + 1) // 2), 90, np.uint8))
    return Frame(
        band=band,
        planes=(luma, half, half) if chroma else (luma,),
        index=index,
        capture_ns=capture_ns,
        pts=capture_ns,
        time_base=Fraction(1, 1_000_000_000),
        name=name,
        arrival_ns=time.monotonic_ns() if arrival_ns is None else arrival_ns,
    )


class ListSource:
    """Yields the given frames; with ``endless``, further frames until it is stopped."""

    def __init__(
        self,
        band: Band,
        frames: Sequence[Frame | UnreadableFrame],
        *,
        clock: ClockKind = "media",
        endless: bool = False,
    ) -> None:
        self.band = band
        self.clock: ClockKind = clock
        self.overflow = Overflow.BLOCK if clock == "media" else Overflow.DROP_OLDEST
        self.closed = False
        self._frames = frames
        self._endless = endless

    @property
    def label(self) -> str:
        return f"list of {len(self._frames)} {self.band} frames"

    def open(self) -> SourceInfo:
        first = next(f for f in self._frames if isinstance(f, Frame))
        return SourceInfo(
            first.width, first.height, 25.0, len(self._frames), not first.chroma, first.luma.bit_depth, "list"
        )

    def frames(self, stop: threading.Event) -> Iterator[Frame | UnreadableFrame]:
        for item in self._frames:
            if stop.is_set():
                return
            yield item
        index = len(self._frames)
        while self._endless and not stop.is_set():
            yield frame(self.band, index, index * 40 * MS)
            index += 1

    def close(self) -> None:
        self.closed = True


class CollectSink:
    """Keeps the frames written to it; ``delay_s`` makes it slow; ``closed`` counts calls of ``close``."""

    def __init__(self, *, delay_s: float = 0.0) -> None:
        self.frames: list[FusedFrame] = []
        self.closed = 0
        self._delay_s = delay_s
        self._wake = threading.Event()

    @property
    def label(self) -> str:
        return "memory"

    @property
    def outputs(self) -> list[Path]:
        return []

    def check(self) -> None:
        """Never fails."""

    def write(self, frame: FusedFrame) -> None:
        self._wake.wait(self._delay_s)
        self.frames.append(frame)

    def close(self) -> SinkReport:
        self.closed += 1
        return SinkReport("memory", len(self.frames), 0)
