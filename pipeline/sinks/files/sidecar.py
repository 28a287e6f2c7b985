"""The sidecar of a video: ``NAME.jsonl``, a line a frame, that says when each camera captured what is seen.

Each line is written at once and whole, so that a program that is killed leaves every line it had written, and each
of them is a JSON document; power that fails takes at most those of the last flush interval.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fusepipe.core.frames import Frame, FusedFrame, PairState
from fusepipe.core.segment_names import SIDECAR
from fusepipe.pipeline.sinks.files.partial_file import PartialFile

Wall = Callable[[], int]
"""What the capture times of a live run (the host's monotonic clock) lack now of UNIX time, in nanoseconds."""


def sidecar_line(
    frame: FusedFrame, *, video: str, number: int, pts_s: float, wall: Wall | None, engine: Mapping[str, Any]
) -> dict[str, Any]:
    """One line. ``number`` counts the frames of the video from 0; without ``wall`` no time of day is known.

    ``capture_s`` is on the run's timeline; ``captured`` is the same as time of day, UTC.
    """
    pair, offset_ns = frame.pair, None if wall is None else wall()
    # no camera delivered what a card shows
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
        **{key: engine.get(key) for key in ("model", "backend", "precision")},
    }


def _camera(frame: Frame | None, offset_ns: int | None) -> dict[str, Any] | None:
    if frame is None:
        return None
    return {"frame": frame.index, **({"name": frame.name} if frame.name else {}), **_times(frame.capture_ns, offset_ns)}


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
    """The file; one thread uses it. Raises ``OSError`` for what cannot be written."""

    def __init__(self, video: Path, *, overwrite: bool = False) -> None:
        self.file = PartialFile(video.with_suffix(SIDECAR), overwrite=overwrite)
        self.lines = self.bytes = 0

    def check(self) -> None:
        self.file.check()

    def claim(self) -> None:
        """Takes the name. Raises :class:`OutputExistsError` where it is taken."""
        self.file.claim()

    def write(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self.file.append(data)
        self.lines += 1
        self.bytes += len(data)

    def sync(self) -> None:
        self.file.sync()

    def close(self, *, complete: bool) -> None:
        """``complete`` gives it its final name; else what it has stays under the partial one."""
        if not self.file.claimed:
            return
        try:
            if not self.lines:
                self.file.discard()
            elif complete:
                self.file.commit()
        finally:
            self.file.release()
