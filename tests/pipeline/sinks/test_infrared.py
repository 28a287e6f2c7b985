"""Infrared recordings: every count comes back, at its time, with its unit; each frame once."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.recording import lines

from fusepipe.core.frames import Band, Frame, FramePair, FusedFrame, Original, PairState, Plane
from fusepipe.core.infrared_tag import TAG
from fusepipe.core.radiometry import PlanckConstants, Radiometry
from fusepipe.core.segment_names import SegmentNames
from fusepipe.pipeline.sinks.files.infrared import InfraredSink
from fusepipe.pipeline.sinks.files.recording import RecordingRules, RecordingSink
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sinks.files.video_with_sidecar import VideoWithSidecar
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.testing import MS, frame

RNG = np.random.default_rng(5)
RADIOMETRY = Radiometry("kelvin", 1.0617, -1076.75, PlanckConstants(21106.77, 1501.0, 1.0, -7340.0, 0.012545258))
OPTIONS = VideoOptions("ffv1", infrared="recorded")


def infrared(index: int, capture_ns: int, plane: Plane) -> Frame:
    made = frame(Band.INFRARED, index, capture_ns)
    return replace(made, planes=(plane,), radiometry=RADIOMETRY)


def fused(index: int, thermal: Frame | None, capture_ns: int) -> FusedFrame:
    visible = frame(Band.VISIBLE, index, capture_ns, pixels=np.full((6, 8), 90, np.uint8))
    pair = FramePair(index, PairState.FUSED, Band.VISIBLE, thermal, visible)
    return FusedFrame(
        pair, visible.planes, PairState.FUSED, index, capture_ns, visible.pts, visible.time_base, name=str(index)
    )


def record(path: Path, frames: list[FusedFrame], **options: Any) -> None:
    sink = InfraredSink(VideoSink(path, replace(OPTIONS, **options), fps=25))
    sink.check()
    for one in frames:
        sink.write(one)
    assert sink.close().path == str(path)


def read(path: Path, **options: Any) -> tuple[SourceInfo, list[Frame]]:
    source = VideoFileSource(path, Band.INFRARED, **options)
    info = source.open()
    frames = [item for item in source.frames(threading.Event()) if isinstance(item, Frame)]
    source.close()
    return info, frames


def extremes() -> np.ndarray[Any, Any]:
    counts = RNG.integers(0, 65536, (37, 51), dtype=np.uint16)  # odd sides
    counts[3, 4], counts[5, 6], counts[7] = (
        0,
        65535,
        256,
    )  # dead pixels, and a row that is zero with its bytes exchanged
    return counts


@pytest.mark.parametrize(
    "plane",
    [
        Plane(extremes(), 16),
        Plane(extremes() >> 2, 14),
        Plane((extremes() >> 6).astype(np.uint16), 10, "limited"),
        Plane((extremes() >> 8).astype(np.uint8), 8, "limited"),
        Plane(np.full((37, 51), 65535, np.uint16), 16),
    ],
    ids=["16 bit", "14 bit", "10 bit, limited", "8 bit, limited", "saturated"],
)
def test_what_is_read_is_what_was_recorded(tmp_path: Path, plane: Plane) -> None:
    record(tmp_path / "ir.mkv", [fused(k, infrared(k, k * 40 * MS, plane), k * 40 * MS) for k in range(3)])
    info, frames = read(tmp_path / "ir.mkv")
    assert len(frames) == 3 and info.bit_depth == plane.bit_depth
    for got in frames:
        assert np.array_equal(got.luma.pixels, plane.pixels) and got.luma.pixels.dtype == plane.pixels.dtype
        assert (got.luma.bit_depth, got.luma.value_range) == (plane.bit_depth, plane.value_range)
        assert got.radiometry == info.radiometry == RADIOMETRY


PLANE = Plane(extremes(), 16)


def test_each_frame_is_recorded_once_at_its_own_time(tmp_path: Path) -> None:
    first, second = infrared(10, 190 * MS, PLANE), infrared(12, 270 * MS, PLANE)
    repeated = replace(infrared(13, 310 * MS, PLANE), original=Original(12, 270 * MS))  # by a frozen camera
    pairs = [
        (first, 200),
        (first, 240),
        (None, 260),
        (second, 280),
        (repeated, 320),
        (infrared(14, 333 * MS, PLANE), 360),
    ]
    record(tmp_path / "ir.mkv", [fused(k, one, ms * MS) for k, (one, ms) in enumerate(pairs)])
    info, frames = read(tmp_path / "ir.mkv")
    assert [one.capture_ns // MS for one in frames] == [190, 270, 333] and info.start_ns == 190 * MS


def test_presentation_times_are_those_of_the_fused_video_where_infrared_comes_later(tmp_path: Path) -> None:
    pairs = [fused(0, None, 1000 * MS), fused(1, infrared(0, 1503 * MS, PLANE), 1500 * MS)]
    record(tmp_path / "ir.mkv", pairs)
    with av.open(str(tmp_path / "ir.mkv")) as container:
        (packet, _) = container.demux(video=0)
        assert float(packet.pts * packet.time_base) == pytest.approx(0.503, abs=1e-6)
    assert read(tmp_path / "ir.mkv")[1][0].capture_ns == 1503 * MS


def test_a_live_recording_begins_at_0(tmp_path: Path) -> None:
    hours = 7 * 3600 * 1000 * MS
    record(tmp_path / "ir.mkv", [fused(0, infrared(0, hours, PLANE), hours)], infrared="live")
    assert read(tmp_path / "ir.mkv")[1][0].capture_ns == 0


def test_a_radiometry_of_the_rig_replaces_that_of_the_recording(tmp_path: Path) -> None:
    record(tmp_path / "ir.mkv", [fused(0, infrared(0, 0, PLANE), 0)])
    given = Radiometry("kelvin", 0.01)
    info, (one,) = read(tmp_path / "ir.mkv", radiometry=given)
    assert one.radiometry == info.radiometry == given


@pytest.mark.parametrize(
    "text", ["", "{}", '{"version":1,"bit_depth":8,"value_range":"full","origin_ns":0,"radiometry":null}']
)
def test_a_tag_that_does_not_fit_is_a_note(tmp_path: Path, text: str) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        container.metadata[TAG] = text or "?"
        stream = container.add_stream("ffv1", rate=25, width=51, height=37, pix_fmt="gray16le")
        for packet in stream.encode(av.VideoFrame.from_ndarray(PLANE.pixels, format="gray16le")):
            container.mux(packet)
        container.mux(stream.encode(None))
    info, (one,) = read(tmp_path / "a.mkv")
    assert "infrared recording" in info.notes[0] and np.array_equal(one.luma.pixels, PLANE.pixels)


def test_segments_and_sidecars_are_those_of_the_infrared_camera(tmp_path: Path) -> None:
    names, rules = SegmentNames(str(tmp_path / "%H%M%S.mkv")), RecordingRules(segment_ns=80 * MS)
    sink = InfraredSink(RecordingSink(names, OPTIONS, rules, live=False, engine=dict, fps=25))
    for k in range(4):
        sink.write(fused(k, infrared(k, k * 40 * MS, PLANE), k * 40 * MS + 7))
    assert sink.close().frames == 4
    files = sorted(tmp_path.glob("*.mkv"), key=lambda path: read(path)[0].start_ns)
    assert [[one.capture_ns // MS for one in read(path)[1]] for path in files] == [[0, 40], [80, 120]]
    assert [line["capture_s"] for line in lines(files[0].with_suffix(".jsonl"))] == [0.0, 0.04]


def test_with_a_sidecar_the_origin_is_that_of_the_video(tmp_path: Path) -> None:
    path = tmp_path / "ir.mkv"
    video = VideoSink(path, OPTIONS, fps=25)
    sink = InfraredSink(VideoWithSidecar(path, video, engine=dict, wall=None, flush_ns=MS))
    sink.write(fused(0, None, 100 * MS))
    sink.write(fused(1, infrared(0, 140 * MS, PLANE), 140 * MS))
    sink.close()
    assert lines(path.with_suffix(".jsonl"))[0]["pts_s"] == pytest.approx(0.04)
