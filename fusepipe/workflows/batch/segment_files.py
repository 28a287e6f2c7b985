"""The segments of clips that are not joined yet: in the state folder, each with a record that its hash is in."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fusepipe.core.files import move_into_place, write_bytes, write_text
from fusepipe.core.version import __version__
from fusepipe.evaluation.scores import Scores
from fusepipe.pipeline.stages.scene_state import SceneState, scene_state
from fusepipe.workflows.batch.entries import STATE_FOLDER
from fusepipe.workflows.batch.records import hashed_file
from fusepipe.workflows.batch.segment_plan import ClipPart, Handover

SEGMENT = "segment.mkv"
SEGMENT_SIDECAR = "segment.jsonl"


@dataclass(frozen=True, slots=True)
class FinishedSegment:
    """A segment: ``captures`` to ``last_ns`` as of :class:`SectionSink`.

    ``origin_ns``: the capture time at presentation time 0 of the file. ``ends``: digest of what the stages that follow
    the scene remember at its end. ``sidecar``: its sidecar, with ``sidecar_sha256``, or empty. ``scores``: the metrics
    of those of its pairs that are scored. ``counts_checked``: whether an infrared frame has shown if its counts suit
    the settings; ``counts_warning``: that one of the ``warnings`` which says that they do not. ``unreadable``: the
    numbers in the file of each camera's frames that could not be decoded, some maybe also of other segments.
    ``made_from`` is a hash of the clip's settings and inputs, and of the section. ``file`` is empty for a segment
    without frames. ``problem``: why it cannot be part of its clip, which is then fused as a whole.
    """

    made_from: str
    file: str = ""
    sha256: str = ""
    captures: tuple[int, ...] = ()
    track: tuple[int | None, ...] = ()
    origin_ns: int | None = None
    sidecar: str = ""
    sidecar_sha256: str = ""
    states: Mapping[str, int] | None = None
    before: str = ""
    last: str = ""
    last_ns: int | None = None
    ends: str = ""
    scores: tuple[Scores, ...] = ()
    seconds: float = 0.0
    engine: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    counts_checked: bool = False
    counts_warning: str = ""
    unreadable: Mapping[str, Sequence[int]] | None = None
    problem: str = ""
    version: str = __version__


def segment_made_from(made_from: str, part: ClipPart, metrics: Sequence[str] = ()) -> str:
    """A hash of all that a segment depends on; ``made_from`` is the clip's, ``metrics`` are those that it has."""
    assert part.index is not None
    section, plan = part.plan.sections[part.index], part.plan
    begins = replace(section, handover=replace(section.handover, begins=""))  # that is for the segment before it
    after = part.index + 1
    seam_ns = plan.sections[after].before_ns if after < len(plan.sections) else None
    text = f"{made_from} {part.index} {begins!r} {seam_ns} {plan.fused} {plan.first_pass} {list(metrics)}"
    return hashlib.sha256(text.encode()).hexdigest()


def segments_folder(out: Path, output: str) -> Path:
    """The folder of the segments of an output."""
    return out / STATE_FOLDER / "segments" / hashlib.sha256(output.encode()).hexdigest()[:24]


def read_segment(folder: Path, index: int, made_from: str) -> FinishedSegment | None:
    """The record of a segment whose file is as it was written; ``None`` for one that is to be fused."""
    try:
        document = json.loads((folder / f"{index:04}.json").read_text("utf-8"))
        for name in ("captures", "track", "scores", "warnings"):
            document[name] = tuple(document[name])
        segment = FinishedSegment(**document)
        if segment.made_from != made_from or segment.version != __version__:
            return None
        if segment.file and hashed_file(folder / segment.file, segment.file).sha256 != segment.sha256:
            return None
        if segment.sidecar and hashed_file(folder / segment.sidecar, "").sha256 != segment.sidecar_sha256:
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
    if segment.sidecar:
        move_into_place(work / SEGMENT_SIDECAR, folder / segment.sidecar, overwrite=True)
    write_text(folder / f"{index:04}.json", json.dumps(asdict(segment)))


def publish_state(folder: Path, index: int, state: SceneState) -> None:
    """Keeps what a segment starts from. Raises ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / f"{index:04}.state", state.to_bytes())


def publish_handover(folder: Path, index: int, first_pass: str, handover: Handover) -> None:
    """Lets a segment begin, whose state is kept, while the pass over the clip goes on. Raises ``OSError``."""
    document = {"first_pass": first_pass, **handover.as_json()}
    write_text(folder / f"{index:04}.handover", json.dumps(document))


def read_handover(folder: Path, index: int, first_pass: str) -> Handover | None:
    """What a segment begins with, of this pass over the clip; ``None`` while that is not known."""
    try:
        document = json.loads((folder / f"{index:04}.handover").read_text("utf-8"))
        return Handover(**document) if document.pop("first_pass") == first_pass else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def read_state(folder: Path, index: int, digest: str) -> SceneState | None:
    """What a segment starts from; ``None`` where it is missing or not what ``digest`` says."""
    try:
        state = scene_state((folder / f"{index:04}.state").read_bytes())
    except (OSError, ValueError):
        return None
    return state if state.digest() == digest else None


def remove_segments(out: Path, output: str) -> None:
    """Removes the segments of an output that is finished."""
    folder = segments_folder(out, output)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # those of other clips are in it
        folder.parent.rmdir()
