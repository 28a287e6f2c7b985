"""Where long clips are split, and what is refused because it depends on all frames before; pure."""

from __future__ import annotations

from typing import Any

import pytest

from fusepipe.config.sync import SyncConfig
from fusepipe.core.frames import Band
from fusepipe.core.units import MS, S
from fusepipe.workflows.batch.segment_plan import (
    AUTO_NS,
    MAX_SEGMENTS,
    CannotSplitError,
    Section,
    SegmentChoice,
    StreamTimes,
    plan_sections,
    stream_times,
)

IR, VIS = Band.INFRARED, Band.VISIBLE


def packets(count: int, step_ms: int = 40, *, first_ms: int = 0, key_every: int = 25) -> list[tuple[int, bool]]:
    return [((first_ms + index * step_ms) * MS, index % key_every == 0) for index in range(count)]


def times(infrared: list[tuple[int, bool]], visible: list[tuple[int, bool]]) -> dict[Band, StreamTimes]:
    return {IR: stream_times(infrared, IR), VIS: stream_times(visible, VIS)}


def test_sections_begin_at_key_frames_and_cover_all() -> None:
    found = plan_sections(times(packets(2500), packets(2500)), SyncConfig(), SegmentChoice(4))
    assert [(part.begin_ns, part.end_ns) for part in found] == [
        (None, 25 * S), (25 * S, 50 * S), (50 * S, 75 * S), (75 * S, None)
    ]  # fmt: skip
    assert found[1].before_ns == 25 * S - 40 * MS
    # 2.5 s are held, and there is a key frame each second
    assert found[1].read_from_ns == {VIS: 24 * S, IR: 21 * S}
    assert found[0].read_from_ns == {VIS: None, IR: None}


@pytest.mark.parametrize(
    ("reference", "offset_ms", "other_ns"), [("visible", 5000, 16 * S), ("infrared", 5000, 26 * S)]
)
def test_the_offset_of_the_infrared_camera_counts_in_its_direction(
    reference: str, offset_ms: int, other_ns: int
) -> None:
    sync = SyncConfig.model_validate({"reference": reference, "offset_ns": offset_ms * MS})
    found = plan_sections(times(packets(2500), packets(2500)), sync, SegmentChoice(4))
    assert found[1].read_from_ns[Band(reference).other] == other_ns


def test_a_camera_that_starts_later_is_read_from_its_beginning() -> None:
    late = packets(1000, first_ms=30_000)
    found = plan_sections(times(late, packets(2500)), SyncConfig(), SegmentChoice(4))
    assert [part.read_from_ns[IR] for part in found] == [None, None, 46 * S, 69 * S]  # the last one ends at 70 s


@pytest.mark.parametrize(
    ("choice", "seconds", "count"),
    [
        (SegmentChoice(8), 600, 8),
        (SegmentChoice(8), 3, 3),
        (SegmentChoice(length_ns=75 * S), 600, 8),
        (SegmentChoice(length_ns=75 * S), 75, 1),
        (SegmentChoice(length_ns=75 * S), 76, 2),
        (SegmentChoice(length_ns=S), 10**6, MAX_SEGMENTS),
        (SegmentChoice().for_workers(4), 600, 4),
        (SegmentChoice().for_workers(16), 600, 600 * S // AUTO_NS),
        (SegmentChoice().for_workers(16), 90, 1),
    ],
)
def test_how_many_segments_a_clip_has(choice: SegmentChoice, seconds: int, count: int) -> None:
    assert choice.count_for(seconds * S) == count


def test_a_short_clip_is_one_section() -> None:
    choice = SegmentChoice(length_ns=20 * S)
    assert plan_sections(times(packets(250), packets(250)), SyncConfig(), choice) == (Section(),)


def test_segments_are_fewer_where_key_frames_are_rare() -> None:
    clip = packets(2500, key_every=1000)
    found = plan_sections(times(clip, clip), SyncConfig(), SegmentChoice(8))
    assert [part.begin_ns for part in found] == [None, 40 * S, 80 * S]


@pytest.mark.parametrize(
    ("infrared", "visible", "says"),
    [
        (packets(2500), packets(2500, key_every=9999), "the visible file has no key frames"),
        (packets(2500, key_every=9999), packets(2500), "the key frames of the infrared file are too far apart"),
    ],
)
def test_clips_without_key_frames_are_not_split(infrared: Any, visible: Any, says: str) -> None:
    with pytest.raises(CannotSplitError, match=says):
        plan_sections(times(infrared, visible), SyncConfig(), SegmentChoice(8))


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        (None, "no times of their own"),
        ([], "no times of their own"),
        ([*packets(50), *packets(50)], "jump back"),
        ([*packets(50), *packets(50, first_ms=1960)], "two frames of the visible file have the same time"),
        ([*packets(50), *packets(50, first_ms=60_000)], "a gap of over 10 s"),
    ],
)
def test_times_that_depend_on_all_frames_before_are_refused(listed: Any, says: str) -> None:
    with pytest.raises(CannotSplitError, match=says):
        stream_times(listed, VIS)


def test_frames_in_the_order_of_decoding_are_sorted() -> None:
    """B-frames come after the frame that they need, in the file."""
    found = stream_times([(0, True), (120, False), (40, False), (80, False)], VIS)
    assert found == StreamTimes([0, 40, 80, 120], [0])


def test_a_clip_is_not_split_by_itself_while_others_keep_all_workers_busy() -> None:
    clip = times(packets(9000), packets(9000))
    assert len(plan_sections(clip, SyncConfig(), SegmentChoice().for_workers(4, 3))) == 4
    with pytest.raises(CannotSplitError, match="other clips keep all workers busy, and segments cost 15% more"):
        plan_sections(clip, SyncConfig(), SegmentChoice().for_workers(4, 4))
    assert len(plan_sections(clip, SyncConfig(), SegmentChoice(3).for_workers(4, 99))) == 3, "asked for"
    with pytest.raises(CannotSplitError, match="there is one worker, which uses all cores"):
        plan_sections(clip, SyncConfig(), SegmentChoice().for_workers(1))
    short = times(packets(250), packets(250))
    assert plan_sections(short, SyncConfig(), SegmentChoice().for_workers(4, 99)) == (Section(),)
