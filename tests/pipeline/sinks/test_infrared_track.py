"""The infrared track of a fused video: every count back at its time, the fused video first, both after a crash."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fusepipe.core.frames import Band, Frame, FramePair, FusedFrame, PairState, Plane
from fusepipe.core.radiometry import Radiometry
from fusepipe.pipeline.sinks.files.track_options import TrackOptions
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.testing import MS, frame

RADIOMETRY = Radiometry("kelvin", 0.01)
STEP = 40 * MS
TRACK = TrackOptions(recorded=True, fps=25)


def counts(index: int, shape: tuple[int, int] = (20, 30)) -> Plane:
    return Plane(np.random.default_rng(index).integers(0, 16384, shape, dtype=np.uint16), 14)


def infrared(index: int, capture_ns: int, plane: Plane | None = None) -> Frame:
    made = frame(Band.INFRARED, index, capture_ns)
    return replace(made, planes=(plane or counts(index),), radiometry=RADIOMETRY)


def fused(index: int, thermal: Frame | None, capture_ns: int | None = None) -> FusedFrame:
    at_ns = index * STEP if capture_ns is None else capture_ns
    visible = frame(Band.VISIBLE, index, at_ns, pixels=np.full((48, 64), 8 * index % 200, np.uint8))
    state = PairState.SINGLE if thermal is None else PairState.FUSED
    pair = FramePair(index, state, Band.VISIBLE, thermal, visible)
    return FusedFrame(pair, visible.planes, state, index, at_ns, visible.pts, Fraction(1, 1_000_000_000))


def sink(path: Path, track: TrackOptions | None = TRACK, **options: object) -> VideoSink:
    made = VideoSink(path, replace(VideoOptions(codec="ffv1", track=track), **options), fps=25)
    made.check()
    return made


def record(path: Path, frames: list[FusedFrame], track: TrackOptions | None = TRACK) -> str:
    made = sink(path, track)
    for one in frames:
        made.write(one)
    return made.close().note


def read(path: Path) -> list[Frame]:
    source = VideoFileSource(path, Band.INFRARED)
    try:
        source.open()
        return [one for one in source.frames(threading.Event()) if isinstance(one, Frame)]
    finally:
        source.close()


def shown(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [one.to_ndarray(format="gray").tobytes() for one in container.decode(video=0)]


def test_every_count_comes_back_at_its_time_with_its_meaning(tmp_path: Path) -> None:
    frames = [infrared(index, index * STEP + 7 * MS) for index in range(8)]
    assert record(tmp_path / "a.mkv", [fused(index, one) for index, one in enumerate(frames)]) == ""
    found = read(tmp_path / "a.mkv")
    assert [one.capture_ns for one in found] == [one.capture_ns for one in frames]
    for one, other in zip(found, frames, strict=True):
        assert np.array_equal(one.luma.pixels, other.luma.pixels) and one.luma.bit_depth == 14
        assert one.radiometry == RADIOMETRY
    record(tmp_path / "plain.mkv", [fused(index, one) for index, one in enumerate(frames)], None)
    assert shown(tmp_path / "a.mkv") == shown(tmp_path / "plain.mkv")


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe")
def test_ffprobe_shows_both_tracks_the_fused_one_first(tmp_path: Path) -> None:
    record(tmp_path / "a.mkv", [fused(index, infrared(index, index * STEP)) for index in range(4)])
    words = ["ffprobe", "-v", "error", "-show_streams", "-count_frames", "-of", "json", str(tmp_path / "a.mkv")]
    streams = json.loads(subprocess.run(words, capture_output=True, timeout=60, check=True).stdout)["streams"]
    seen = [(one["codec_name"], one["pix_fmt"], one["width"], one["nb_read_frames"]) for one in streams]
    assert seen == [("ffv1", "gray", 64, "4"), ("ffv1", "gray16le", 30, "4")]
    assert [one["disposition"]["default"] for one in streams] == [1, 0]
    assert json.loads(streams[1]["tags"]["FUSEPIPE_INFRARED"])["bit_depth"] == 14
    assert "FUSEPIPE_INFRARED" not in streams[0]["tags"]


def test_a_held_frame_is_in_it_once_and_an_earlier_first_one_is_at_its_time(tmp_path: Path) -> None:
    first, second = infrared(0, 100 * MS), infrared(1, 160 * MS)
    pairs = [fused(0, first, 120 * MS), fused(1, first, 160 * MS), fused(2, second, 200 * MS), fused(3, None, 240 * MS)]
    record(tmp_path / "a.mkv", pairs)
    assert [one.capture_ns for one in read(tmp_path / "a.mkv")] == [100 * MS, 160 * MS]
    source = VideoFileSource(tmp_path / "a.mkv", Band.VISIBLE)
    source.open()
    assert [one.capture_ns for one in source.frames(threading.Event())] == [20 * MS, 60 * MS, 100 * MS, 140 * MS]
    source.close()


def test_a_file_that_begins_without_infrared_needs_to_know_the_camera(tmp_path: Path) -> None:
    pairs = [fused(0, None), fused(1, None), fused(2, infrared(0, 2 * STEP))]
    known = TrackOptions(recorded=True, fps=25, size=(30, 20), bit_depth=14, radiometry=RADIOMETRY)
    assert record(tmp_path / "a.mkv", pairs, known) == ""
    (found,) = read(tmp_path / "a.mkv")
    assert np.array_equal(found.luma.pixels, counts(0).pixels) and found.capture_ns == 2 * STEP
    assert "without an infrared track" in record(tmp_path / "b.mkv", pairs)
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert len(container.streams.video) == 1


def test_frames_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    other = infrared(1, STEP, counts(1, (24, 32)))
    note = record(tmp_path / "a.mkv", [fused(0, infrared(0, 0)), fused(1, other), fused(2, infrared(2, 2 * STEP))])
    assert note.startswith("1 infrared frames of another size")
    assert [one.capture_ns for one in read(tmp_path / "a.mkv")] == [0, 2 * STEP]


@pytest.mark.parametrize("gap", [False, True], ids=["both deliver", "infrared stops"])
def test_what_a_crash_leaves_has_both_tracks_up_to_the_flush(tmp_path: Path, gap: bool) -> None:
    made = sink(tmp_path / "a.mkv", flush_ns=200 * MS)
    for index in range(60):
        made.write(fused(index, None if gap and index >= 20 else infrared(index, index * STEP)))
    shutil.copy(tmp_path / "a.partial.mkv", tmp_path / "left.mkv")  # as the disk has it
    made.close()
    assert len(shown(tmp_path / "left.mkv")) >= 60 - 10
    found = read(tmp_path / "left.mkv")
    assert len(found) >= (20 if gap else 60 - 10)
    assert all(np.array_equal(one.luma.pixels, counts(index).pixels) for index, one in enumerate(found))
