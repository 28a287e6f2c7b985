"""The sidecar of a video: ``NAME.jsonl``, one line for each frame with the capture times of both cameras.

Each line is a JSON document that is written unbuffered in one piece, so a killed process loses no line; a power failure
loses at most those of the last flush interval.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fusepipe.core.frames import Frame, FusedFrame, PairState
from fusepipe.core.segment_names import SIDECAR
from fusepipe.pipeline.sinks.files.partial_file import PartialFile

WallOffset = Callable[[], int]
"""Returns UNIX time minus the host's monotonic clock, in nanoseconds."""


def sidecar_line(
    frame: FusedFrame, *, video: str, number: int, pts_s: float, wall: WallOffset | None, engine: Mapping[str, Any]
) -> dict[str, Any]:
    """One line as plain values. ``number`` counts the frames of the video from 0.

    ``capture_s`` is on the run's timeline; ``captured`` is the same in UTC, ``None`` without ``wall``.
    """
    pair, offset_ns = frame.pair, None if wall is None else wall()
    fuser = engine if frame.substitute is None else asdict(frame.substitute)
    # a slate was delivered by no camera
    silent = frame.state is PairState.NO_SIGNAL
    return {
        "frame": number,
        "video": video,
        "pts_s": round(pts_s, 6),
        "pair": frame.index,
        "state": str(frame.state),
        **_times(frame.capture_ns, offset_ns),
        "infrared": None if silent else _camera(pair.infrared, offset_ns),
        "visible": None if silent else _camera(pair.visible, offset_ns),
        "skew_ms": None if pair.skew_ns is None else round(pair.skew_ns / 1e6, 3),
        **{key: fuser.get(key) for key in ("model", "backend", "precision")},
    }


def _camera(frame: Frame | None, offset_ns: int | None) -> dict[str, Any] | None:
    if frame is None:
        return None
    exposed, name = frame.exposed, {"name": frame.name} if frame.name else {}
    return {"frame": exposed.index, **name, **_times(exposed.capture_ns, offset_ns)}


def _times(capture_ns: int, offset_ns: int | None) -> dict[str, Any]:
    return {
        "capture_s": round(capture_ns / 1e9, 6),
        "captured": None if offset_ns is None else utc_text(capture_ns + offset_ns),
    }


def utc_text(unix_ns: int) -> str:
    """UNIX time as ISO 8601 in UTC, to the microsecond."""
    seconds, rest_ns = divmod(unix_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Sidecar:
    """The sidecar file; used by one thread. Raises ``OSError`` if it cannot be written."""

    def __init__(self, video: Path, *, overwrite: bool = False) -> None:
        self.file = PartialFile(video.with_suffix(SIDECAR), overwrite=overwrite)
        self.lines = self.bytes = 0

    def check(self) -> None:
        self.file.check()

    def claim(self) -> None:
        """Creates the file. Raises :class:`OutputExistsError` if it exists."""
        self.file.claim()

    def write(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self.file.append(data)
        self.lines += 1
        self.bytes += len(data)

    def sync(self) -> None:
        self.file.sync()

    def close(self, *, complete: bool) -> None:
        """Gives the file its final name if ``complete``; otherwise it keeps its partial name."""
        if not self.file.claimed:
            return
        try:
            if not self.lines:
                self.file.discard()
            elif complete:
                self.file.commit()
        finally:
            self.file.release()
