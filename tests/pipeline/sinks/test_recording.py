"""Recordings in segments: contents of segments and sidecars, retention, and a full disk."""

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from fusepipe.config.schema import Rig
from fusepipe.core.errors import DiskFullError, OutputExistsError, SinkError
from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.core.segment_names import Segment, SegmentNames
from fusepipe.pipeline.sinks.files.recording import RecordingRules, RecordingSink
from fusepipe.pipeline.sinks.files.retention import Bounds, surplus
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sinks.files.video_with_sidecar import VideoWithSidecar
from fusepipe.pipeline.testing import MS, frame
from fusepipe.rig.sinks import SinkContext, make_sink, restartable

S = 1_000_000_000
NOISE = np.random.default_rng(7)
ENGINE = {"model": "stream", "backend": "openvino", "precision": "fp32", "device": "cpu"}


def fused(index, *, size=(64, 48), start_ns=0, step_ns=40 * MS, noise=False):
    """Frame ``index`` of a run that begins at ``start_ns``; the infrared camera is 3 ms late and counts by itself."""
    shape = size[::-1]
    pixels = NOISE.integers(0, 256, shape, dtype=np.uint8) if noise else np.full(shape, index % 200, np.uint8)
    capture_ns = start_ns + index * step_ns
    visible = frame(Band.VISIBLE, index, capture_ns, pixels=pixels)
    infrared = frame(Band.INFRARED, 1000 + index, capture_ns + 3 * MS, pixels=pixels)
    pair = FramePair(index, PairState.FUSED, Band.VISIBLE, infrared, visible, 3 * MS)
    return FusedFrame(pair, (Plane(pixels),), PairState.FUSED, index, capture_ns, visible.pts, visible.time_base)


def recorder(pattern, *, live=False, codec="h264", sidecar=True, **rules):
    bounds = Bounds(rules.pop("max_age_ns", None), rules.pop("max_total_bytes", None))
    return RecordingSink(
        SegmentNames(str(pattern), utc=True),
        VideoOptions(codec=codec),
        RecordingRules(**rules, bounds=bounds),
        live=live,
        engine=lambda: ENGINE,
        sidecar=sidecar,
        fps=25,
    )


def packets(path):
    """(seconds, whether a key frame) of each packet, as ffprobe reads them: a peer that is not ours."""
    program = shutil.which("ffprobe")
    if program is None:
        pytest.skip("ffprobe is not installed (apt-get install ffmpeg)")
    words = [program, "-v", "error", "-show_entries", "packet=pts_time,flags", "-of", "json", path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return [(float(p["pts_time"]), "K" in p["flags"]) for p in json.loads(done.stdout)["packets"]]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def videos(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix in (".mkv", ".mp4"))


# -- segments


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_segments_by_time_play_alone_and_nothing_is_lost(tmp_path, suffix):
    sink = recorder(tmp_path / f"%Y-%m-%d_%H-%M-%S.{suffix}", segment_ns=S)
    sink.check()
    for index in range(60):
        sink.write(fused(index))
    report = sink.close()
    files = sorted(videos(tmp_path), key=lambda p: lines(p.with_suffix(".jsonl"))[0]["pair"])
    counts = []
    for file in files:
        seen = packets(file)
        assert seen[0] == (0.0, True), "each begins with a key frame at time 0"
        beside = lines(file.with_suffix(".jsonl"))
        assert [line["frame"] for line in beside] == list(range(len(seen)))
        assert [line["pts_s"] for line in beside] == pytest.approx([pts for pts, _ in seen], abs=0.0011)
        assert {line["video"] for line in beside} == {file.name}
        counts.append(len(seen))
    assert counts == [25, 25, 10]
    pairs = [line["pair"] for file in files for line in lines(file.with_suffix(".jsonl"))]
    assert pairs == list(range(60))
    assert report.frames == 60 and report.bytes == sum(p.stat().st_size for p in files)
    assert report.note.startswith("3 segments, ") and sink.close() == report
    assert len(list(tmp_path.iterdir())) == 6, "and nothing else"


def test_segments_by_size(tmp_path):
    sink = recorder(tmp_path / "%H%M%S.mkv", segment_bytes=60_000)
    for index in range(40):
        sink.write(fused(index, size=(160, 120), noise=True))
    sink.close()
    sizes = [p.stat().st_size for p in videos(tmp_path)]
    one_frame = 160 * 120 * 2
    assert len(sizes) > 2
    assert all(size <= 60_000 + one_frame + 3000 for size in sizes), sizes
    assert sum(size >= 60_000 for size in sizes) >= len(sizes) - 1, sizes


def test_a_picture_of_another_size_begins_a_segment(tmp_path):
    sink = recorder(tmp_path / "%H%M%S.mkv")
    for index in range(4):
        sink.write(fused(index, size=(64, 48) if index < 2 else (80, 60)))
    sink.close()
    widths = []
    for path in videos(tmp_path):
        with av.open(str(path)) as container:
            widths.append(container.streams.video[0].width)
    assert sorted(widths) == [64, 80]


def test_an_existing_file_is_never_written_over(tmp_path):
    pattern = tmp_path / "%Y.mkv"
    year = time.strftime("%Y", time.gmtime())
    (tmp_path / f"{year}.mkv").write_bytes(b"precious")
    (tmp_path / f"{year}.2.partial.mkv").write_bytes(b"of a killed run")
    (tmp_path / f"{year}.3.jsonl").write_text("a sidecar of somebody\n")
    sink = recorder(pattern)
    sink.check()
    sink.write(fused(0))
    sink.close()
    assert (tmp_path / f"{year}.mkv").read_bytes() == b"precious"
    assert (tmp_path / f"{year}.2.partial.mkv").read_bytes() == b"of a killed run"
    assert (tmp_path / f"{year}.3.jsonl").read_text() == "a sidecar of somebody\n"
    assert len(packets(tmp_path / f"{year}.4.mkv")) == 1


def test_two_recorders_of_one_pattern_take_different_names(tmp_path):
    one, two = (recorder(tmp_path / "%Y.mkv") for _ in range(2))
    for sink in (one, two):
        sink.write(fused(0))
    for sink in (one, two):
        sink.write(fused(1))
        sink.close()
    assert [len(packets(p)) for p in videos(tmp_path)] == [2, 2]


def test_live_names_and_sidecars_have_the_time_of_capture(tmp_path):
    sink = recorder(tmp_path / "%Y-%m-%d_%H-%M-%S.mkv", live=True, segment_ns=10 * S)
    begun_ns = time.monotonic_ns() - 3600 * S  # captured an hour ago
    for index in range(3):
        sink.write(fused(index, start_ns=begun_ns))
    sink.close()
    (video,) = videos(tmp_path)
    expected_s = time.time() - 3600
    assert abs(time.mktime(time.strptime(video.stem, "%Y-%m-%d_%H-%M-%S")) - time.timezone - expected_s) < 60
    first, second, _ = lines(video.with_suffix(".jsonl"))
    at = [np.datetime64(line["captured"].rstrip("Z"), "us") for line in (first, second)]
    assert (at[1] - at[0]).astype(int) == pytest.approx(40_000, abs=500)
    assert abs(at[0].astype(float) / 1e6 - expected_s) < 60
    infrared = np.datetime64(second["infrared"]["captured"].rstrip("Z"), "us")
    assert (infrared - at[1]).astype(int) == 3000 and second["skew_ms"] == 3.0
    assert second["infrared"]["frame"] == 1001 and second["visible"]["frame"] == 1
    assert {key: second[key] for key in ("model", "backend", "precision")} == {
        "model": "stream",
        "backend": "openvino",
        "precision": "fp32",
    }
    with av.open(str(video)) as container:
        assert container.metadata["creation_time"][:19] == first["captured"][:19]


def test_a_recording_that_is_converted_has_no_time_of_day(tmp_path):
    sink = recorder(tmp_path / "%H%M%S.mkv")
    sink.write(fused(25))
    sink.close()
    (line,) = lines(next(tmp_path.glob("*.jsonl")))
    assert line["captured"] is None and line["visible"]["captured"] is None
    assert line["capture_s"] == 1.0 and line["infrared"]["capture_s"] == 1.003


def test_a_sidecar_says_what_was_there(tmp_path):
    sink = VideoWithSidecar(
        tmp_path / "a.mkv",
        VideoSink(tmp_path / "a.mkv", VideoOptions()),
        engine=lambda: ENGINE,
        wall=None,
        flush_ns=S,
    )
    whole = fused(0)
    single = replace(fused(1), state=PairState.SINGLE)
    single = replace(single, pair=replace(single.pair, infrared=None, skew_ns=None))
    card = replace(fused(2), state=PairState.NO_SIGNAL)
    for made in (whole, single, card):
        sink.write(made)
    assert sink.close().frames == 3
    found = lines(tmp_path / "a.jsonl")
    assert [line["state"] for line in found] == ["fused", "single", "no signal"]
    assert [line["infrared"] is None for line in found] == [False, True, True]
    assert [line["visible"] is None for line in found] == [False, False, True], "no camera delivered the card"
    assert [line["skew_ms"] for line in found][:2] == [3.0, None]


def test_a_sidecar_that_is_there_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    video = VideoSink(tmp_path / "a.mkv", VideoOptions())
    sink = VideoWithSidecar(tmp_path / "a.mkv", video, engine=dict, wall=None, flush_ns=S)
    with pytest.raises(OutputExistsError, match=r"a\.jsonl: exists already"):
        sink.check()


def test_a_video_that_failed_is_begun_anew_under_another_name(tmp_path):
    """A file with the time in its name, whose name the failed one has taken; other files live only once."""
    rig = Rig.model_validate(
        {
            "infrared": {"url": "rtsp://cam/ir"},
            "visible": {"url": "rtsp://cam/vis"},
            "sinks": [{"file": "%Y.mkv"}, {"file": "a.mkv"}],
            "base_dir": tmp_path,
        }
    )
    assert [restartable(rig, index) for index in range(2)] == [True, False]
    context = SinkContext(live=True, overwrite=True)
    first = make_sink(rig, 0, context)
    first.write(fused(0, start_ns=time.monotonic_ns()))
    again = make_sink(rig, 0, context, restart=True)
    again.write(fused(1, start_ns=time.monotonic_ns()))
    again.close()
    first.close()
    stem = time.strftime("%Y")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{stem}.2.mkv", f"{stem}.mkv"]


# -- what is deleted


def test_what_is_surplus():
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
        assert total < 120_000 + 70_000, "the open segment may come on top, no more"
    report = sink.close()
    assert all((tmp_path / name).exists() for name in others)
    assert (tmp_path / "11-11-11.mkv").is_symlink() and (tmp_path / "link.target").exists()
    assert not list(tmp_path.glob("00-00-0*")), "the oldest went first, with their sidecars"
    left = Counter(p.suffix for p in tmp_path.iterdir() if p.name not in others and p.stem != "11-11-11")
    assert left[".mkv"] == left[".jsonl"] > 2
    assert "old ones deleted" in report.note


def test_segments_that_are_too_old_and_their_empty_folders_go(tmp_path):
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


def test_what_another_run_writes_now_is_left_alone(tmp_path):
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


# -- a disk that is full


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB; needs the right to mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    mounted = subprocess.run(words, capture_output=True, timeout=20, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], timeout=20, check=True)


def test_a_full_disk_drops_the_oldest_segments_where_the_rules_allow_it(small_disk):
    """More than the disk holds goes through it: what stays is the newest, without a hole."""
    sink = recorder(small_disk / "%H%M%S.mkv", live=True, segment_ns=S, max_total_bytes=10**9)
    start_ns = time.monotonic_ns()
    count = 600
    for index in range(count):
        sink.write(fused(index, size=(160, 120), start_ns=start_ns, noise=True))
    report = sink.close()
    assert report.frames == count and report.bytes > 5_000_000 and "old ones deleted" in report.note
    assert not list(small_disk.glob("*.partial.*")), "room was made before the disk was full"
    pairs = [line["pair"] for file in small_disk.glob("*.jsonl") for line in lines(file)]
    assert sorted(pairs) == list(range(count - len(pairs), count)) and len(pairs) > 75
    assert sum(len(packets(p)) for p in videos(small_disk)) == len(pairs)


@pytest.mark.parametrize("filled_at", [251, 262, 276, 299])
def test_a_disk_that_somebody_else_fills_costs_a_second_at_most(small_disk, filled_at):
    """All at once, at some moment of a segment: it may be torn there, and the recording goes on in a new one."""
    sink = recorder(small_disk / "%H%M%S.mkv", live=True, segment_ns=4 * S, max_age_ns=3600 * S)
    start_ns = time.monotonic_ns()
    for index in range(340):
        if index == filled_at:
            (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free))
        sink.write(fused(index, size=(160, 120), start_ns=start_ns, noise=True))
    sink.close()
    pairs = sorted(line["pair"] for file in small_disk.glob("*.jsonl") for line in lines(file))
    assert pairs == list(range(pairs[0], 340)), "every frame is in one of the segments that are left"
    played = 0
    for path in videos(small_disk):
        with av.open(str(path)) as container:
            played += sum(packet.size > 0 for packet in container.demux(video=0))
    assert len(pairs) - 26 <= played <= len(pairs) + 1  # the frame at which it was torn may be in both


@pytest.mark.parametrize(("live", "bounds"), [(True, {}), (False, {"max_total_bytes": 10**9})])
def test_a_full_disk_fails_where_nothing_may_be_deleted(small_disk, live, bounds):
    """Live without rules that delete, and a conversion, which can be done again, in any case."""
    sink = recorder(small_disk / "%H%M%S.mkv", live=live, segment_ns=S, **bounds)
    start_ns = time.monotonic_ns()
    index = 0

    def write_on():
        nonlocal index
        while index < 2000:
            sink.write(fused(index, size=(160, 120), start_ns=start_ns, noise=True))
            index += 1

    with pytest.raises(DiskFullError, match=r"No space left on device|the disk is full"):
        write_on()
    sink.close()
    for beside in small_disk.glob("*.jsonl"):
        assert lines(beside), "every line is whole"
    before = sorted(small_disk.iterdir())
    again = recorder(small_disk / "%H%M%S.mkv", live=live, segment_ns=S, **bounds)
    with pytest.raises(DiskFullError, match=r"the disk is full \(0\.\d MB free\)"):
        again.write(fused(0, start_ns=start_ns))
    again.close()
    assert sorted(small_disk.iterdir()) == before, "nothing is begun on a full disk"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="is a file, not a folder"):
        recorder(tmp_path / "file" / "%H.mkv").check()
