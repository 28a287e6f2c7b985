"""Joins the sidecars of videos that continue each other to that of the joined video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fusepipe.core.errors import SinkError
from fusepipe.pipeline.sinks.files.partial_file import write_error
from fusepipe.pipeline.sinks.files.sidecar import Sidecar


def join_sidecars(parts: Sequence[Path], video: Path, times_s: Sequence[float], *, every_pair: bool) -> None:
    """Writes the sidecar of ``video``, whose frames have these presentation times: the lines of ``parts``, renumbered.

    ``every_pair``: each pair of the run is a frame of the video, and both have the same number; else pairs keep theirs.
    Raises :class:`SinkError` for files that cannot be read or written, or have not the frames of the video.
    """
    sidecar = Sidecar(video)
    try:
        sidecar.claim()
        try:
            for part in parts:
                for text in part.read_text("utf-8").splitlines():
                    number = sidecar.lines
                    if number >= len(times_s):
                        raise SinkError(f"{part}: has more lines than the video has frames")
                    line = json.loads(text)
                    line |= {"frame": number, "video": video.name, "pts_s": round(times_s[number], 6)}
                    sidecar.write(line | {"pair": number} if every_pair else line)
            if sidecar.lines != len(times_s):
                raise SinkError(f"{video}: has {len(times_s)} frames, its sidecars {sidecar.lines} lines")
        except BaseException:
            sidecar.close(complete=False)
            raise
        sidecar.close(complete=True)
    except (OSError, ValueError) as error:
        raise write_error(f"{video}: its sidecar cannot be joined: {error}", error) from error
