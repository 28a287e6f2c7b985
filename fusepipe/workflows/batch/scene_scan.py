"""One pass over a clip that is split: what the stages that follow the scene remember where each segment begins.

It makes the pairs of a run from the times of both files. Only infrared images are decoded, and of those that need no
others only what a stage measures; nothing is registered or fused. Segments begin while the pass is on its way: each as
soon as what it starts from is kept. What is found is checked by them: each ends as the next one begins.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from fusepipe.config.schema import Rig
from fusepipe.core.errors import SourceError
from fusepipe.core.files import write_text
from fusepipe.core.frames import Band, Frame, FramePair, PairState
from fusepipe.core.units import S
from fusepipe.pipeline.pairing.flat_field import FlatFieldPairer
from fusepipe.pipeline.sources.base import SourceItem
from fusepipe.pipeline.sources.files.undecoded import NO_IMAGE, UndecodedFrames
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.rig.factories.pairing import make_pairer
from fusepipe.rig.factories.scene_stages import SceneStages, make_scene_stages
from fusepipe.rig.factories.sources import make_source
from fusepipe.rig.opening import count_settings
from fusepipe.workflows.batch.segment_files import publish_handover, publish_state, read_state
from fusepipe.workflows.batch.segment_plan import (
    CannotSplitError,
    Handover,
    Section,
    SegmentPlan,
    StreamTimes,
)

_SCAN = "scan.json"  # in the folder of the segments
ClipTimes = Mapping[Band, StreamTimes]


def count_pairs(rig: Rig, sections: Sequence[Section], times: ClipTimes) -> tuple[tuple[Section, ...], int]:
    """The sections with the number of fused pairs before each, and that of the clip; by the times of its frames."""
    before: list[int] = [0]
    fused = 0
    for pair in _pairs(rig, {band: iter(_timed(band, times[band])) for band in Band}):
        while len(before) < len(sections) and _reached(pair, sections[len(before)].begin_ns):
            before.append(fused)
        fused += pair.state is PairState.FUSED
    before += [fused] * (len(sections) - len(before))
    counted = zip(sections, before, strict=True)
    return tuple(replace(section, handover=Handover(fused=count)) for section, count in counted), fused


def follow_scene(rig: Rig, plan: SegmentPlan, times: ClipTimes, folder: Path) -> SegmentPlan:
    """Follows the scene up to the last section; the plan with what each section begins with.

    States are kept in ``folder``, each with a handover that lets its segment begin. What an earlier pass has found is
    read from there. Raises :class:`CannotSplitError` where images that should not depend on others do,
    :class:`SourceError` as the source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (known := _read(folder, plan)) is not None:
        return known
    with ExitStack() as stack:
        source = make_source(rig.infrared, Band.INFRARED, rig.name)
        stack.callback(source.close)
        info = source.open()
        undecoded = None
        if isinstance(source, VideoFileSource) and times[Band.INFRARED].all_keys:
            undecoded = source.undecoded()
        infrared = iter(source.frames(threading.Event()) if undecoded is None else undecoded)
        settings = count_settings(rig, Band.INFRARED, info)
        stages = make_scene_stages(rig, info, settings, lambda text: None)  # the segments warn
        passed = _Pass(plan, stages, undecoded, folder)
        visible = iter(_timed(Band.VISIBLE, times[Band.VISIBLE]))
        for pair in _pairs(rig, {Band.INFRARED: infrared, Band.VISIBLE: visible}):
            passed.take(pair)
            if passed.complete:
                break
        found = passed.end()
    document = {
        "first_pass": plan.first_pass,
        "handovers": [section.handover.as_json() for section in found.sections],
    }
    write_text(folder / _SCAN, json.dumps(document))
    return found


class _Pass:
    """The pairs of a clip in their order, and the sections that they are in."""

    def __init__(self, plan: SegmentPlan, stages: SceneStages, undecoded: UndecodedFrames | None, folder: Path) -> None:
        self._plan, self._stages, self._undecoded, self._folder = plan, stages, undecoded, folder
        self._states: list[str] = [""]  # of those sections whose frame before has been reached
        self._begun = 1

    def take(self, pair: FramePair) -> None:
        sections = self._plan.sections
        while len(self._states) < len(sections) and _reached(pair, sections[len(self._states)].before_ns):
            self._keep_state()
        while self._begun < len(sections) and _reached(pair, sections[self._begun].begin_ns):
            self._begin_section()
        self._follow(pair)

    @property
    def complete(self) -> bool:
        """Whether the last section has begun."""
        return self._begun == len(self._plan.sections)

    def end(self) -> SegmentPlan:
        """What was found; sections that no pair is in begin with what there was at the end."""
        while len(self._states) < len(self._plan.sections):
            self._keep_state()
        while not self.complete:
            self._begin_section()
        return self._plan

    def _follow(self, pair: FramePair) -> None:
        frame, undecoded = pair.infrared, self._undecoded
        if frame is None or undecoded is None:
            self._stages.follow(pair)
        elif self._stages.needs(frame):
            try:
                decoded = undecoded.decoded(frame)
            except SourceError as error:
                raise CannotSplitError(f"infrared {error}") from error
            self._stages.follow(replace(pair, infrared=decoded))
        else:
            undecoded.drop_before(frame.index)
            self._stages.pass_over(frame)

    def _keep_state(self) -> None:
        state = self._stages.state()
        publish_state(self._folder, len(self._states), state)
        self._states.append(state.digest())

    def _begin_section(self) -> None:
        index = self._begun
        counted = self._plan.sections[index].handover.fused
        handover = Handover(self._states[index], self._stages.state().digest(), counted)
        self._plan = self._plan.with_handover(index, handover)
        publish_handover(self._folder, index, self._plan.first_pass, handover)
        self._begun += 1


def _reached(pair: FramePair, at_ns: int | None) -> bool:
    return pair.lead.capture_ns >= (at_ns or 0)


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
    for index, capture_ns in enumerate(times.frames):
        yield Frame(band, NO_IMAGE, index, capture_ns, capture_ns, Fraction(1, S))


def _read(folder: Path, plan: SegmentPlan) -> SegmentPlan | None:
    """What an earlier pass found; ``None`` where it was of another clip, or its states are not all as they were."""
    try:
        document: dict[str, Any] = json.loads((folder / _SCAN).read_text("utf-8"))
        handovers = [Handover(**values) for values in document["handovers"]]
        if document["first_pass"] != plan.first_pass or len(handovers) != len(plan.sections):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    for index, handover in enumerate(handovers[1:], 1):
        if read_state(folder, index, handover.state) is None:
            return None
        plan = plan.with_handover(index, handover)
    return plan
