"""Video files that continue each other are joined by their packets, and only those that fit."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from helpers.made_clips import write_clip

from fusepipe.core.errors import SinkError
from fusepipe.core.units import MS
from fusepipe.pipeline.sinks.files.joined_video import SegmentFile, UnlikeSegmentsError, join_segments


def part(path: Path, first_ms: int, count: int = 5, **options: object) -> SegmentFile:
    """A file of its own times, whose frames were captured from ``first_ms`` on."""
    write_clip(path, range(0, 40 * count, 40), b_frames=0, **options)  # type: ignore[arg-type]
    return SegmentFile(path, [(first_ms + 40 * index) * MS for index in range(count)])


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_times_continue_as_the_frames_were_captured(suffix: str, tmp_path: Path) -> None:
    parts = [part(tmp_path / "a.mkv", 1000), part(tmp_path / "b.mkv", 1207)]
    target = tmp_path / f"joined{suffix}"
    assert len(join_segments(parts, target, fps=25.0, flush_ns=1000 * MS)) == 10
    with av.open(str(target)) as container:
        times = [round(1000 * frame.time) for frame in container.decode(video=0) if frame.time is not None]
        assert container.streams.video[0].average_rate
    assert times == [0, 40, 80, 120, 160, 207, 247, 287, 327, 367]


def test_times_that_are_too_close_stay_apart(tmp_path: Path) -> None:
    parts = [part(tmp_path / "a.mkv", 0), part(tmp_path / "b.mkv", 160)]
    join_segments(parts, tmp_path / "joined.mkv", fps=25.0, flush_ns=1000 * MS)
    with av.open(str(tmp_path / "joined.mkv")) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert times[4:7] == [160, 161, 200]


def test_files_that_differ_are_not_joined(tmp_path: Path) -> None:
    parts = [part(tmp_path / "a.mkv", 0), part(tmp_path / "b.mkv", 200, size=(64, 32))]
    with pytest.raises(UnlikeSegmentsError, match="size"):
        join_segments(parts, tmp_path / "joined.mkv", fps=25.0, flush_ns=1000 * MS)
    assert not (tmp_path / "joined.mkv").exists()


@pytest.mark.parametrize("known", [4, 6])
def test_a_file_with_other_frames_than_were_written_is_an_error(known: int, tmp_path: Path) -> None:
    whole = part(tmp_path / "a.mkv", 0)
    wrong = SegmentFile(whole.path, [index * 40 * MS for index in range(known)])
    with pytest.raises(SinkError, match=f"has not the {known} frames"):
        join_segments([wrong], tmp_path / "joined.mkv", fps=25.0, flush_ns=1000 * MS)
