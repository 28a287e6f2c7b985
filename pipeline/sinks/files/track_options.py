"""What a file is told of the infrared camera for its second track: apart from the track itself, which needs FFmpeg."""

from __future__ import annotations

from dataclasses import dataclass

from fusepipe.core.frames import Size
from fusepipe.core.radiometry import Radiometry


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """What is known of the infrared camera before its first frame: for a file that begins without one.

    ``recorded``: the camera is a recording, whose timeline the tag keeps. ``fps`` is a hint for readers. ``size`` is
    (0, 0) where it is not known.
    """

    recorded: bool
    fps: float | None = None
    size: Size = (0, 0)
    bit_depth: int = 8
    radiometry: Radiometry | None = None
