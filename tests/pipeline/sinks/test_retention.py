"""Retention: which segments of a recording are deleted, and which files are not touched."""

import os
from collections import Counter
from pathlib import Path

from helpers.recording import S, fused, packets, recorder, videos

from fusepipe.core.segment_names import Segment, SegmentNames
from fusepipe.pipeline.sinks.files.retention import Bounds, surplus
from fusepipe.pipeline.testing import MS


def test_surplus_by_age_and_size():
    kept = [Segment(Path(f"{i}.mkv"), (), 100, i * S) for i in range(5)]
    now_ns = 10 * S

    def drop(open_bytes=0, **bounds):
        return [s.name.stem for s in surplus(kept, Bounds(**bounds), open_bytes=open_bytes, now_ns=now_ns)]

    assert drop() == []
    assert drop(max_total_bytes=500) == []
    assert drop(max_total_bytes=499) == ["0"]
    assert drop(max_total_bytes=300, open_bytes=50) == ["0", "1", "2"]
    assert drop(max_total_bytes=10, open_bytes=50) == ["0", "1", "2", "3", "4"], "never the open one"
    assert drop(max_age_ns=8 * S) == ["0", "1"]
    assert drop(max_age_ns=8 * S, max_total_bytes=250) == ["0", "1", "2"]


def test_the_oldest_segments_and_only_those_are_deleted(tmp_path):
    others = ["notes.txt", "2026.mkv", "12-00-00.mp4", "12-00-00.mkv.bak", "x12-00-00.mkv", "12-00.mkv"]
    for name in others:
        (tmp_path / name).write_bytes(b"x" * 50_000)
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "link.target").write_bytes(b"x")
    (tmp_path / "11-11-11.mkv").symlink_to(tmp_path / "link.target")
    for second in range(3):  # an earlier run's, one of them killed
        name = f"00-00-0{second}"
        (tmp_path / f"{name}{'.partial' if second == 0 else ''}.mkv").write_bytes(b"x" * 20_000)
        (tmp_path / f"{name}{'.partial' if second == 0 else ''}.jsonl").write_bytes(b"x" * 5_000)
        for file in tmp_path.glob(f"{name}*"):
            os.utime(file, (1000 + second, 1000 + second))
    sink = recorder(tmp_path / "%H-%M-%S.mkv", segment_ns=400 * MS, max_total_bytes=120_000)
    for index in range(60):
        sink.write(fused(index, noise=True))
        mine = [p for p in tmp_path.iterdir() if SegmentNames(str(tmp_path / "%H-%M-%S.mkv")).matches(p)]
        total = sum(p.stat().st_size for p in mine if not p.is_symlink())
        assert total < 120_000 + 70_000, "only the open segment may exceed the limit"
    report = sink.close()
    assert all((tmp_path / name).exists() for name in others)
    assert (tmp_path / "11-11-11.mkv").is_symlink() and (tmp_path / "link.target").exists()
    assert not list(tmp_path.glob("00-00-0*")), "the oldest are deleted first, with their sidecars"
    left = Counter(p.suffix for p in tmp_path.iterdir() if p.name not in others and p.stem != "11-11-11")
    assert left[".mkv"] == left[".jsonl"] > 2
    assert "old segments deleted" in report.note


def test_old_segments_and_their_empty_folders_are_deleted(tmp_path):
    day = tmp_path / "2001-01-01"
    day.mkdir()
    (day / "10.mkv").write_bytes(b"x")
    (day / "10.jsonl").write_bytes(b"x")
    kept = tmp_path / "2001-01-02"
    kept.mkdir()
    (kept / "10.mkv").write_bytes(b"x")
    (kept / "mine.txt").write_bytes(b"x")
    for file in (day / "10.mkv", day / "10.jsonl", kept / "10.mkv"):
        os.utime(file, (10**9, 10**9))
    sink = recorder(tmp_path / "%Y-%m-%d" / "%H.mkv", segment_ns=S, max_age_ns=3600 * S)
    sink.write(fused(0))
    sink.close()
    assert not day.exists() and [p.name for p in kept.iterdir()] == ["mine.txt"]
    assert len(videos(tmp_path)) == 1


def test_segments_that_another_run_is_writing_are_kept(tmp_path):
    other = recorder(tmp_path / "%Y.mkv")
    other.write(fused(0))
    (partial,) = tmp_path.glob("*.partial.mkv")
    os.utime(partial, (0, 0))
    sink = recorder(tmp_path / "%Y.mkv", segment_ns=S, max_age_ns=S, max_total_bytes=10)
    sink.write(fused(0))
    sink.close()
    assert partial.exists()
    other.write(fused(1))
    other.close()
    assert sorted(len(packets(p)) for p in videos(tmp_path)) == [1, 2]
