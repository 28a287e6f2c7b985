"""The infrared frames of a file with their temperatures, for ``thermal read`` and ``thermal export``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band, Frame
from fusepipe.core.units import S
from fusepipe.pipeline.sources.base import Source, SourceInfo
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.rig.factories.sources import make_source
from fusepipe.rig.from_options import source_config

LinearRadiometry = tuple[str, float, float]
"""Unit, gain and offset."""


@dataclass(slots=True)
class ThermalFile:
    """An open file of an infrared camera. Times are in seconds, 0 at the beginning of the file or its fused video."""

    source: Source
    info: SourceInfo
    unreadable: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def frames(self, from_s: float = 0.0) -> Iterator[tuple[float, Frame]]:
        """The frames with their times, from the key frame before ``from_s`` on. Called once."""
        source, zero_ns = self.source, self._zero_ns
        if from_s and isinstance(source, VideoFileSource):
            source.seek(zero_ns + round(from_s * S))
        for item in source.frames(self._stop):
            if isinstance(item, Frame):
                yield (item.capture_ns - zero_ns) / S, item
            else:
                self.unreadable += 1

    @property
    def _zero_ns(self) -> int:
        return self.source.origin_ns if isinstance(self.source, VideoFileSource) else 0

    @property
    def interval_s(self) -> float:
        """The usual time between frames; a second where it is not known."""
        return 1 / self.info.fps if self.info.fps else 1.0


@contextmanager
def open_thermal(path: Path, radiometry: LinearRadiometry | None) -> Iterator[ThermalFile]:
    """A file or folder as the infrared camera of a rig; ``radiometry`` replaces what it says of its counts.

    Raises :class:`UsageError` for live cameras and impossible radiometry, :class:`SourceError` for what cannot be read.
    """
    keys: dict[str, Any] = {}
    if radiometry is not None:
        unit, gain, offset = radiometry
        keys["radiometry"] = {"unit": unit, "gain": gain, "offset": offset}
    config = source_config(str(path), keys)
    if config.kind != "path":
        raise UsageError(f"{config.label}: record it first (content: infrared of a file sink); this reads files")
    source = make_source(config, Band.INFRARED, "thermal")
    try:
        yield ThermalFile(source, source.open())
    finally:
        source.close()
