"""The segments of clips that are not joined yet: in the state folder, each with a record that its hash is in."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusepipe.core.files import move_into_place, write_text
from fusepipe.core.version import __version__
from fusepipe.workflows.batch.entries import STATE_FOLDER
from fusepipe.workflows.batch.records import hashed_file
from fusepipe.workflows.batch.segment_plan import ClipPart

SEGMENT = "segment.mkv"


@dataclass(frozen=True, slots=True)
class FinishedSegment:
    """A segment: ``captures`` and ``states`` of its frames, ``before`` and ``last`` as of :class:`SectionSink`.

    ``made_from`` is a hash of the clip's settings and inputs, and of the section. ``file`` is empty for a segment
    without frames. ``problem``: why it cannot be part of its clip, which is then fused as a whole.
    """

    made_from: str
    file: str = ""
    sha256: str = ""
    captures: tuple[int, ...] = ()
    states: Mapping[str, int] | None = None
    before: str = ""
    last: str = ""
    seconds: float = 0.0
    engine: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    problem: str = ""
    version: str = __version__


def segment_made_from(made_from: str, part: ClipPart) -> str:
    """A hash of all that a segment depends on; ``made_from`` is the clip's."""
    return hashlib.sha256(f"{made_from} {part.index} {part.plan!r}".encode()).hexdigest()


def segments_folder(out: Path, output: str) -> Path:
    """The folder of the segments of an output."""
    return out / STATE_FOLDER / "segments" / hashlib.sha256(output.encode()).hexdigest()[:24]


def read_segment(folder: Path, index: int, made_from: str) -> FinishedSegment | None:
    """The record of a segment whose file is as it was written; ``None`` for one that is to be fused."""
    try:
        document = json.loads((folder / f"{index:04}.json").read_text("utf-8"))
        document["captures"], document["warnings"] = tuple(document["captures"]), tuple(document["warnings"])
        segment = FinishedSegment(**document)
        if segment.made_from != made_from or segment.version != __version__:
            return None
        if segment.file and hashed_file(folder / segment.file, segment.file).sha256 != segment.sha256:
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return segment


def publish_segment(work: Path, folder: Path, index: int, segment: FinishedSegment) -> None:
    """Moves the file of a segment from the folder ``work`` to its place, and then writes its record."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{index:04}.json").unlink(missing_ok=True)
    if segment.file:
        move_into_place(work / SEGMENT, folder / segment.file, overwrite=True)
    write_text(folder / f"{index:04}.json", json.dumps(asdict(segment)))


def remove_segments(out: Path, output: str) -> None:
    """Removes the segments of an output that is finished."""
    folder = segments_folder(out, output)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # those of other clips are in it
        folder.parent.rmdir()
