"""Where a long clip is split: at key frames of the camera that sets the pace. Pure; nothing is read here.

::

    reference  K . . . K . . . K . . . K . . .     K: a key frame
                       | section   |
                   b<--|                           the frame before it, for the check of the seam
               read from here                      so that every frame is decoded as in the whole clip
    other      K . . K . . K . . K . . K . .
             read from here                        so far before that what is held over is known
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

from fusepipe.config.sync import SyncConfig
from fusepipe.core.errors import FusepipeError
from fusepipe.core.frames import Band
from fusepipe.core.units import S
from fusepipe.pipeline.pairing.time_pairer import SLACK_NS, TOLERANCE_NS

MAX_SEGMENTS = 1000  # of a clip
MAX_READ = 2  # times the mean length of a section: what is decoded before one at most
AUTO_NS = 60 * S  # no shorter segments than this are made by themselves: each decodes some of its neighbour as well
OVERHEAD = 0.15  # measured of a clip whose scene is followed: docs/measurements/batch.md
MAX_REORDER = 16  # frames between which others may be in a file, at most, by the codecs
LONGEST_GAP_NS = 10 * S  # what counts as a jump of the clock depends on all frames before
BUSY = f"other clips keep all workers busy, and segments cost {OVERHEAD:.0%} more CPU time"
ALONE = "there is one worker, which uses all cores for a clip"
MIN_CORES = 3  # below, one worker is as fast as several: a whole clip uses 1.5 cores, segments cost OVERHEAD
FIRST_PASS = -1  # in place of the index of a section


class CannotSplitError(FusepipeError):
    """Segments of this clip would not be equal to the whole clip; the argument says why."""


@dataclass(frozen=True, slots=True)
class SegmentChoice:
    """``count`` segments of each clip, or as many as have at most ``length_ns``; none is below ``shortest_ns``.

    Without both, the count is that of the workers. ``refused``: why clips are not split now; empty where they are.
    """

    count: int | None = None
    length_ns: int | None = None
    shortest_ns: int = S
    refused: str = ""

    @property
    def automatic(self) -> bool:
        """Whether neither a count nor a length was asked for."""
        return not self.count and self.length_ns is None

    def for_workers(self, workers: int, waiting: int = 0) -> SegmentChoice:
        """The choice with a count or a length, while so many other clips wait for a worker.

        By itself, a clip is not split while those keep all workers busy: segments cost more CPU time. Nor for one
        worker, which decodes, fuses and encodes in parallel.
        """
        if not self.automatic:
            return self
        if workers == 1:
            return SegmentChoice(2, None, AUTO_NS, ALONE)
        return SegmentChoice(workers, None, AUTO_NS, BUSY if waiting >= workers else "")

    def count_for(self, duration_ns: int) -> int:
        """The number of segments of a clip; 1: it is not split."""
        if self.length_ns is not None:
            return min(MAX_SEGMENTS, max(1, -(-duration_ns // self.length_ns)))
        return max(1, min(self.count or 1, duration_ns // self.shortest_ns))


@dataclass(frozen=True, slots=True)
class Handover:
    """What a section gets from the ones before it, of which a pass over the clip knows.

    ``state`` and ``begins``: digests of what the stages that follow the scene remember at the frame before the section,
    from which the segment starts, and at its first one, with which the segment before has to end; empty where nothing
    is followed. ``fused``: the number of fused pairs before it.
    """

    state: str = ""
    begins: str = ""
    fused: int = 0

    def as_json(self) -> dict[str, str | int]:
        """The fields as plain values."""
        return {"state": self.state, "begins": self.begins, "fused": self.fused}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a clip, in capture times of the reference: from ``begin_ns`` on, before ``end_ns``; ``None``: open.

    ``before_ns``: the reference frame before ``begin_ns``. ``read_from_ns``: the key frame of each camera, on its own
    times, with which reading begins; ``None`` for the beginning. ``read_index``: the number of that frame in the file.
    """

    begin_ns: int | None = None
    before_ns: int | None = None
    end_ns: int | None = None
    read_from_ns: Mapping[Band, int | None] = field(default_factory=dict)
    read_index: Mapping[Band, int] = field(default_factory=dict)
    handover: Handover = Handover()


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """The sections of a clip in their order; ``read`` counts the frames of each camera, ``fps`` is the reference's.

    ``infrared_fps``: that of the infrared camera. ``fused``: the number of fused pairs, where the clip is scored.
    ``first_pass``: a hash of what the pass depends on that follows the scene; empty where nothing is followed.
    ``problem``: why its segments cannot be joined, found by that pass.
    """

    sections: tuple[Section, ...]
    read: Mapping[Band, int]
    fps: float | None
    infrared_fps: float | None = None
    fused: int | None = None
    first_pass: str = ""
    problem: str = ""

    def with_handover(self, index: int, handover: Handover) -> SegmentPlan:
        """The plan with what a section gets from the ones before it."""
        section = replace(self.sections[index], handover=handover)
        return replace(self, sections=(*self.sections[:index], section, *self.sections[index + 1 :]))


@dataclass(frozen=True, slots=True)
class ClipPart:
    """What is done with a clip that is split: fuse the section ``index``, or with ``None`` join all of them.

    ``FIRST_PASS``: follow its scene, for what the sections begin with.
    """

    plan: SegmentPlan
    index: int | None

    @property
    def fuses(self) -> bool:
        """Whether it is one of the sections."""
        return self.index is not None and self.index != FIRST_PASS


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """The capture times of all frames, and of the key frames, of one camera; both sorted."""

    frames: Sequence[int]
    keys: Sequence[int]

    @property
    def all_keys(self) -> bool:
        """Whether all frames are key frames."""
        return len(self.keys) == len(self.frames)


def stream_times(packets: Sequence[tuple[int, bool]] | None, band: Band) -> StreamTimes:
    """The times of a file's frames, from (time, key frame) in the order of the file.

    Raises :class:`CannotSplitError` where what a frame is paired with depends on all frames before.
    """
    if not packets:
        raise CannotSplitError(f"the frames of the {band} file have no times of their own")
    times = [at_ns for at_ns, _ in packets]
    order = sorted(range(len(times)), key=times.__getitem__)
    moved = max(abs(place - shown) for shown, place in enumerate(order))
    if moved > MAX_REORDER or any(
        latest - at_ns > LONGEST_GAP_NS for at_ns, latest in zip(times, accumulate(times, max), strict=True)
    ):
        raise CannotSplitError(f"the times of the {band} file jump back")
    frames = [times[place] for place in order]
    if any(after == before for before, after in pairwise(frames)):
        raise CannotSplitError(f"two frames of the {band} file have the same time")
    if any(after - before > LONGEST_GAP_NS for before, after in pairwise(frames)):
        raise CannotSplitError(f"the {band} file has a gap of over {LONGEST_GAP_NS // S} s")
    return StreamTimes(frames, sorted(at_ns for at_ns, key in packets if key))


def plan_sections(times: Mapping[Band, StreamTimes], sync: SyncConfig, choice: SegmentChoice) -> tuple[Section, ...]:
    """The sections of a clip; one for a clip that is not long enough.

    Raises :class:`CannotSplitError` for a long one without key frames to split at.
    """
    reference = times[sync.reference]
    first_ns, last_ns = reference.frames[0], reference.frames[-1]
    count = choice.count_for(last_ns - first_ns)
    if count == 1:
        return (Section(),)
    begins = _begins(reference, [first_ns + (last_ns - first_ns) * index // count for index in range(1, count)])
    if not begins:
        raise CannotSplitError(f"the {sync.reference} file has no key frames to split at")
    if choice.refused:
        raise CannotSplitError(choice.refused)
    longest_ns = MAX_READ * (last_ns - first_ns) // (len(begins) + 1) + _held_ns(sync)
    sections = [Section(end_ns=begins[0], read_from_ns=dict.fromkeys(Band))]
    for begin_ns, end_ns in zip(begins, [*begins[1:], None], strict=True):
        before_ns = reference.frames[bisect_left(reference.frames, begin_ns) - 1]
        read_from_ns = {band: _read_from(times[band], band, before_ns, sync) for band in Band}
        for band, at_ns in read_from_ns.items():
            start_ns = times[band].frames[0] if at_ns is None else at_ns
            if _on_clock(sync.reference, begin_ns, sync) - _on_clock(band, start_ns, sync) > longest_ns:
                raise CannotSplitError(f"the key frames of the {band} file are too far apart")
        numbers = {
            band: 0 if at_ns is None else bisect_left(times[band].frames, at_ns) for band, at_ns in read_from_ns.items()
        }
        sections.append(Section(begin_ns, before_ns, end_ns, read_from_ns, numbers))
    return tuple(sections)


def _begins(reference: StreamTimes, wanted: Sequence[int]) -> list[int]:
    """The key frames that are nearest to the wanted times, each once; not the first frame."""
    keys = [at_ns for at_ns in reference.keys if at_ns > reference.frames[0]]
    return sorted({min(keys, key=lambda at_ns: abs(at_ns - want_ns)) for want_ns in wanted}) if keys else []


def _read_from(times: StreamTimes, band: Band, before_ns: int, sync: SyncConfig) -> int | None:
    """The last key frame from which all is read that a pair at ``before_ns`` may have; ``None``: the beginning."""
    needed_ns = before_ns
    if band is not sync.reference:
        offset_ns = sync.offset_ns if band is Band.INFRARED else -sync.offset_ns
        needed_ns = before_ns - offset_ns - _held_ns(sync)
    found = bisect_right(times.keys, needed_ns)
    return times.keys[found - 1] if found and times.keys[found - 1] > times.frames[0] else None


def _held_ns(sync: SyncConfig) -> int:
    """How far before a pair of the reference the frame of the other camera may be, with some room."""
    tolerance_ns = TOLERANCE_NS if sync.tolerance_ns is None else sync.tolerance_ns
    return sync.max_hold_ns + tolerance_ns + SLACK_NS


def _on_clock(band: Band, at_ns: int, sync: SyncConfig) -> int:
    """A time of a camera on the clock that pairs are made by."""
    return at_ns + (sync.offset_ns if band is Band.INFRARED else 0)
