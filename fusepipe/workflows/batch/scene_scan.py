"""One pass over a clip before its segments: what the stages that follow the scene remember where each of them begins.

It makes the pairs of a run from the times of both files. Only infrared images are decoded, and only where they are
followed; nothing is registered or fused. What it finds is checked by the segments: each ends as the next one begins.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from fusepipe.config.schema import Rig
from fusepipe.core.files import write_text
from fusepipe.core.frames import Band, Frame, FramePair, PairState, Plane
from fusepipe.core.units import S
from fusepipe.pipeline.pairing.flat_field import FlatFieldPairer
from fusepipe.pipeline.sources.base import SourceItem
from fusepipe.rig.factories.pairing import make_pairer
from fusepipe.rig.factories.scene_stages import SceneStages, make_scene_stages
from fusepipe.rig.factories.sources import make_source
from fusepipe.rig.opening import count_settings
from fusepipe.workflows.batch.segment_files import publish_state, read_state
from fusepipe.workflows.batch.segment_plan import Handover, Section, StreamTimes

_SCAN = "scan.json"  # in the folder of the segments


@dataclass(frozen=True, slots=True)
class SceneScan:
    """What is known of a clip's sections: a handover for each, and how many pairs of the clip are fused."""

    handovers: tuple[Handover, ...]
    fused: int


def scan_clip(
    rig: Rig,
    sections: Sequence[Section],
    times: Mapping[Band, StreamTimes],
    folder: Path,
    made_from: str,
    *,
    follow: bool,
    count: bool,
) -> SceneScan:
    """Makes the pairs of a clip, and keeps the states in ``folder``; with ``follow`` the scene is followed.

    With ``count`` all pairs are counted; otherwise the pass ends where the last section begins.

    What an earlier pass ``made_from`` the same is read from the folder. Raises :class:`SourceError` as the source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (known := _read(folder, made_from, len(sections), follow=follow)) is not None:
        return known
    with ExitStack() as stack:
        streams: dict[Band, Iterator[SourceItem]] = {band: iter(_timed(band, times[band])) for band in Band}
        stages = None
        if follow:
            source = make_source(rig.infrared, Band.INFRARED, rig.name)
            stack.callback(source.close)
            info = source.open()
            streams[Band.INFRARED] = iter(source.frames(threading.Event()))
            settings = count_settings(rig, Band.INFRARED, info)
            stages = make_scene_stages(rig, info, settings, lambda text: None)  # the segments warn
        passed = _Pass(sections, stages, folder)
        for pair in _pairs(rig, streams):
            passed.take(pair)
            if passed.complete and not count:
                break
        found = passed.end()
    document = {"made_from": made_from, "handovers": [handover.as_json() for handover in found.handovers]}
    write_text(folder / _SCAN, json.dumps(document | {"fused": found.fused}))
    return found


class _Pass:
    """The pairs of a clip in their order, and the sections that they are in."""

    def __init__(self, sections: Sequence[Section], stages: SceneStages | None, folder: Path) -> None:
        self._sections, self._stages, self._folder = sections, stages, folder
        self._fused = 0
        self._states: list[str] = [""]  # of those sections whose frame before has been reached
        self._handovers: list[Handover] = [Handover()]

    def take(self, pair: FramePair) -> None:
        at_ns = pair.lead.capture_ns
        while len(self._states) < len(self._sections) and at_ns >= (self._sections[len(self._states)].before_ns or 0):
            self._keep_state()
        while len(self._handovers) < len(self._sections) and at_ns >= (
            self._sections[len(self._handovers)].begin_ns or 0
        ):
            self._begin_section()
        if self._stages is not None:
            self._stages.follow(pair)
        self._fused += pair.state is PairState.FUSED

    @property
    def complete(self) -> bool:
        """Whether the last section has begun."""
        return len(self._handovers) == len(self._sections)

    def end(self) -> SceneScan:
        """What was found; sections that no pair is in begin with what there was at the end."""
        while len(self._states) < len(self._sections):
            self._keep_state()
        while len(self._handovers) < len(self._sections):
            self._begin_section()
        return SceneScan(tuple(self._handovers), self._fused)

    def _keep_state(self) -> None:
        digest = ""
        if self._stages is not None:
            state = self._stages.state()
            digest = state.digest()
            publish_state(self._folder, len(self._states), state)
        self._states.append(digest)

    def _begin_section(self) -> None:
        begins = "" if self._stages is None else self._stages.state().digest()
        self._handovers.append(Handover(self._states[len(self._handovers)], begins, self._fused))


def _pairs(rig: Rig, streams: dict[Band, Iterator[SourceItem]]) -> Iterator[FramePair]:
    """As the graph of a run makes them of recordings."""
    pairer = FlatFieldPairer(make_pairer(rig, by_name=False, measured=True))
    while (wanted := pairer.wants()) is not None and streams:
        item = next(streams[wanted], None)
        if item is None:
            del streams[wanted]
            yield from pairer.end(wanted)
        else:
            yield from pairer.push(item)


def _timed(band: Band, times: StreamTimes) -> Iterable[Frame]:
    """Frames without an image at the times of a file's frames."""
    nothing = (Plane(np.zeros((1, 1), np.uint8)),)
    for index, capture_ns in enumerate(times.frames):
        yield Frame(band, nothing, index, capture_ns, capture_ns, Fraction(1, S))


def with_handovers(sections: Sequence[Section], scan: SceneScan) -> tuple[Section, ...]:
    """The sections with what a scan has found for them."""
    return tuple(
        replace(section, handover=handover) for section, handover in zip(sections, scan.handovers, strict=True)
    )


def _read(folder: Path, made_from: str, count: int, *, follow: bool) -> SceneScan | None:
    """What an earlier scan found; ``None`` where it was of another clip, or its states are not all as they were."""
    try:
        document: dict[str, Any] = json.loads((folder / _SCAN).read_text("utf-8"))
        handovers = tuple(Handover(**values) for values in document["handovers"])
        found = SceneScan(handovers, int(document["fused"]))
        if document["made_from"] != made_from or len(handovers) != count:
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    whole = all(
        read_state(folder, index, handover.state) is not None for index, handover in enumerate(handovers[1:], 1)
    )
    return found if whole or not follow else None
