"""Recordings in segments: what a segment and its sidecar contain."""

import time
from dataclasses import replace

import av
import numpy as np
import pytest
from helpers.recording import ENGINE, S, fused, lines, packets, recorder, videos

from fusepipe.config.schema import Rig
from fusepipe.core.errors import OutputExistsError, SinkError
from fusepipe.core.frames import FusedBy, PairState
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sinks.files.video_with_sidecar import VideoWithSidecar
from fusepipe.rig.factories.sinks import SinkContext, make_sink, restartable


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_segments_by_time_are_playable_alone_and_lose_nothing(tmp_path, suffix):
    sink = recorder(tmp_path / f"%Y-%m-%d_%H-%M-%S.{suffix}", segment_ns=S)
    sink.check()
    for index in range(60):
        sink.write(fused(index))
    report = sink.close()
    files = sorted(videos(tmp_path), key=lambda p: lines(p.with_suffix(".jsonl"))[0]["pair"])
    counts = []
    for file in files:
        seen = packets(file)
        assert seen[0] == (0.0, True), "each starts with a key frame at time 0"
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


def test_a_frame_of_another_size_starts_a_segment(tmp_path):
    sink = recorder(tmp_path / "%H%M%S.mkv")
    for index in range(4):
        sink.write(fused(index, size=(64, 48) if index < 2 else (80, 60)))
    sink.close()
    widths = []
    for path in videos(tmp_path):
        with av.open(str(path)) as container:
            widths.append(container.streams.video[0].width)
    assert sorted(widths) == [64, 80]


def test_an_existing_file_is_never_overwritten(tmp_path):
    pattern = tmp_path / "%Y.mkv"
    year = time.strftime("%Y", time.gmtime())
    (tmp_path / f"{year}.mkv").write_bytes(b"precious")
    (tmp_path / f"{year}.2.partial.mkv").write_bytes(b"from a killed run")
    (tmp_path / f"{year}.3.jsonl").write_text("a foreign sidecar\n")
    sink = recorder(pattern)
    sink.check()
    sink.write(fused(0))
    sink.close()
    assert (tmp_path / f"{year}.mkv").read_bytes() == b"precious"
    assert (tmp_path / f"{year}.2.partial.mkv").read_bytes() == b"from a killed run"
    assert (tmp_path / f"{year}.3.jsonl").read_text() == "a foreign sidecar\n"
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


def test_a_conversion_has_no_wall_clock_time(tmp_path):
    sink = recorder(tmp_path / "%H%M%S.mkv")
    sink.write(fused(25))
    sink.close()
    (line,) = lines(next(tmp_path.glob("*.jsonl")))
    assert line["captured"] is None and line["visible"]["captured"] is None
    assert line["capture_s"] == 1.0 and line["infrared"]["capture_s"] == 1.003


def test_a_sidecar_lists_what_each_frame_was_made_of(tmp_path):
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
    slate = replace(fused(2), state=PairState.NO_SIGNAL)
    lighter = replace(fused(3), substitute=FusedBy("mean", "numpy", "exact"))
    for made in (whole, single, slate, lighter):
        sink.write(made)
    assert sink.close().frames == 4
    found = lines(tmp_path / "a.jsonl")
    assert [line["state"] for line in found] == ["fused", "single", "no signal", "fused"]
    assert [line["infrared"] is None for line in found] == [False, True, True, False]
    assert [line["visible"] is None for line in found] == [False, False, True, False], "no camera delivered the slate"
    assert [line["model"] for line in found] == ["stream", "stream", "stream", "mean"]
    assert (found[3]["backend"], found[3]["precision"]) == ("numpy", "exact")
    assert [line["skew_ms"] for line in found][:2] == [3.0, None]


def test_an_existing_sidecar_is_not_overwritten(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    video = VideoSink(tmp_path / "a.mkv", VideoOptions())
    sink = VideoWithSidecar(tmp_path / "a.mkv", video, engine=dict, wall=None, flush_ns=S)
    with pytest.raises(OutputExistsError, match=r"a\.jsonl: already exists"):
        sink.check()


def test_a_failed_video_is_restarted_under_another_name(tmp_path):
    """Only a file with a time pattern can be restarted; its first name is in use by the failed file."""
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


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="is a file, not a folder"):
        recorder(tmp_path / "file" / "%H.mkv").check()
