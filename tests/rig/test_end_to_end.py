"""End to end on real images: folders and videos in, video and images out."""

import json

import av
import cv2
import numpy as np
import pytest

import fusepipe
from fusepipe.config.schema import Rig
from fusepipe.core.errors import ConfigError
from fusepipe.core.frames import Band
from fusepipe.pipeline.testing import CollectSink

SEQUENCES = {"nato_camp": 32, "tree": 19, "duine": 23}


def luma(decoded):
    plane = decoded.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


@pytest.mark.data
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_the_tno_sequences_to_video_and_images(data_dir, sequence, tmp_path):
    folder = data_dir / "tno" / "sequences" / sequence
    sinks = [{"file": str(tmp_path / "a.mkv")}, {"file": str(tmp_path / "b.mp4")}, {"images": str(tmp_path / "images")}]
    rig = Rig.model_validate(
        {
            "name": sequence,
            "infrared": {"url": str(folder / "ir")},
            "visible": {"url": str(folder / "vis")},
            "sinks": sinks,
        }
    )
    report = fusepipe.Pipeline(rig).run()
    count = SEQUENCES[sequence]
    assert report.pairs == {"fused": count} and [w["frames"] for w in report.written] == [count] * 3
    images = sorted((tmp_path / "images").iterdir())
    assert [p.stem for p in images] == sorted(p.stem for p in (folder / "vis").iterdir())
    for video in ("a.mkv", "b.mp4"):
        with av.open(str(tmp_path / video)) as container:
            frames = list(container.decode(video=0))
        assert len(frames) == count
        assert [round(float(p.pts * p.time_base) * 25) for p in frames] == list(range(count))
        for decoded, path in zip(frames, images, strict=True):
            still = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert still.ndim == 2, "grey stays grey"
            mse = np.mean((luma(decoded).astype(float) - still) ** 2)
            assert 10 * np.log10(255**2 / max(mse, 1e-9)) > 36, "the video shows what the images show"


@pytest.mark.data
def test_two_runs_give_identical_bytes(data_dir, tmp_path):
    folder = data_dir / "tno" / "sequences" / "duine"
    for name in ("one", "two"):
        rig = Rig.model_validate(
            {
                "name": name,
                "infrared": {"url": str(folder / "ir")},
                "visible": {"url": str(folder / "vis")},
                "sinks": [{"images": str(tmp_path / name)}],
            }
        )
        fusepipe.Pipeline(rig).run()
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert len(one) == 23 and one == two


@pytest.mark.data
@pytest.mark.parametrize(("data_set", "least"), [("roadscene", 221), ("llvip", 22)])
def test_colour_passes_through_real_scenes_of_many_sizes(data_dir, data_set, least, tmp_path):
    """RoadScene has odd sizes, a different one nearly every pair; LLVIP is 1280x1024."""
    folder = data_dir / data_set
    rig = Rig.model_validate(
        {"name": data_set, "infrared": {"url": str(folder / "ir")}, "visible": {"url": str(folder / "vis")}}
    )
    sink = CollectSink()
    fusepipe.Pipeline(rig, sinks=[sink], max_pairs=25).run()
    assert len(sink.frames) == min(least, 25)
    for frame in sink.frames:
        visible = frame.pair.visible
        assert len(frame.planes) == 3
        for ours, theirs in zip(frame.planes[1:], visible.planes[1:], strict=True):
            change = np.abs(ours.pixels.astype(int) - theirs.pixels).mean()
            assert change == 0
        assert frame.planes[0].pixels.shape == visible.luma.pixels.shape
        assert not np.array_equal(frame.planes[0].pixels, visible.luma.pixels)


def synthetic(band, **options):
    query = "&".join(f"{k}={v}" for k, v in options.items())
    return {"url": f"synthetic://street?{query}"}


def test_different_rates_and_clocks_are_paired_by_true_capture_time():
    """9 Hz infrared with a fast, offset clock against 30 Hz visible: the skew that is reported is the true one."""
    rig = Rig.model_validate(
        {
            "name": "rates",
            "infrared": synthetic("infrared", size="80x60", fps=9, duration="4s", offset="30ms", skew_ppm=300),
            "visible": synthetic("visible", size="160x120", fps=30, duration="4s"),
            "sync": {"tolerance": "17ms", "offset": "-30ms"},
            "fusion": {"model": "mean"},
        }
    )
    sink = CollectSink()
    report = fusepipe.Pipeline(rig, sinks=[sink]).run()
    assert sum(report.pairs.values()) == 120
    assert report.pairs["fused"] >= 36 and report.pairs["held"] > 60
    assert report.skew_ms["max"] <= 111.2
    for frame in sink.frames:
        pair = frame.pair
        if pair.infrared is not None:
            true_ns = pair.infrared.capture_ns - 30_000_000 - pair.visible.capture_ns
            assert pair.skew_ns == true_ns


def test_outside_the_infrared_view_the_run_gives_the_visible_luma():
    rig = Rig.model_validate(
        {
            "name": "registered",
            "infrared": synthetic("infrared", size="160x120", duration="200ms"),
            "visible": synthetic("visible", size="320x240", duration="200ms"),
            "registration": {"calibration": "synthetic://street"},
            "fusion": {"model": "max"},
        }
    )
    sink = CollectSink()
    fusepipe.Pipeline(rig, sinks=[sink]).run()
    frame = sink.frames[0]
    assert frame.pair.warp is not None and frame.pair.warp.valid is not None
    outside = frame.pair.warp.valid == 0
    assert 0.05 < outside.mean() < 0.6
    visible = frame.pair.visible.luma.pixels
    assert np.array_equal(frame.planes[0].pixels[outside], visible[outside])
    assert not np.array_equal(frame.planes[0].pixels, visible)


def test_real_time_pace_keeps_pace_and_loses_nothing_it_can_keep():
    rig = Rig.model_validate(
        {
            "name": "live",
            "infrared": synthetic("infrared", size="80x60", duration="2s", pace="real"),
            "visible": synthetic("visible", size="160x120", duration="2s", pace="real"),
            "fusion": {"model": "mean"},
        }
    )
    sink = CollectSink()
    report = fusepipe.Pipeline(rig, sinks=[sink]).run()
    assert report.seconds >= 1.9
    assert 40 <= len(sink.frames) <= 50
    # of what the cameras gave: one that is late gives fewer
    assert len(sink.frames) + sum(report.dropped.values()) + sum(report.skipped.values()) >= report.read["visible"]
    times = [f.capture_ns for f in sink.frames]
    assert times == sorted(times)


def test_a_live_and_a_recorded_source_are_refused_together():
    rig = Rig.model_validate(
        {
            "name": "mixed",
            "infrared": synthetic("infrared", duration="1s", pace="real"),
            "visible": synthetic("visible", duration="1s"),
        }
    )
    with pytest.raises(ConfigError, match="no common clock"):
        fusepipe.Pipeline(rig, sinks=[CollectSink()]).run()


def test_the_python_one_liner():
    ir, vis = (np.random.default_rng(i).integers(0, 256, (37, 51), dtype=np.uint8) for i in (0, 1))
    with fusepipe.load_fuser("stream") as fuser:
        fused = fuser.fuse(ir, vis)
    assert fused.shape == (37, 51) and fused.dtype == np.uint8


def test_a_16_bit_camera_with_a_range(tmp_path):
    for band in ("ir", "vis"):
        (tmp_path / band).mkdir()
    counts = np.linspace(21000, 23000, 64).astype(np.uint16)[None, :].repeat(8, 0)
    cv2.imwrite(str(tmp_path / "ir" / "a.png"), counts)
    cv2.imwrite(str(tmp_path / "vis" / "a.png"), np.zeros((8, 64), np.uint8))
    body = {"fusion": {"model": "max"}}
    config = {"name": "deep", "visible": {"url": str(tmp_path / "vis")}, **body}
    results = {}
    for key, extra in (("off", {"agc": "off"}), ("default", {}), ("range", {"range": [21000, 23000]})):
        sink = CollectSink()
        rig = Rig.model_validate({**config, "infrared": {"url": str(tmp_path / "ir"), **extra}})
        results[key] = (fusepipe.Pipeline(rig, sinks=[sink]).run(), sink.frames[0].planes[0].pixels)
    assert results["range"][1][0, [0, -1]].tolist() == [0, 255] and results["range"][0].warnings == []
    assert "set range: [" in results["off"][0].warnings[0]
    assert np.ptp(results["off"][1]) < 10, "the full range is used, the frame is not stretched"
    assert Band.INFRARED in results["off"][0].warnings[0]
    assert np.ptp(results["default"][1]) > 200 and results["default"][0].warnings == []


def test_the_record_is_json():
    rig = Rig.model_validate(
        {
            "name": "record",
            "infrared": synthetic("infrared", size="80x60", duration="400ms"),
            "visible": synthetic("visible", size="80x60", duration="400ms"),
            "fusion": {"model": "mean"},
        }
    )
    report = fusepipe.Pipeline(rig, sinks=[CollectSink()]).run()
    record = json.loads(json.dumps(report.as_json()))
    assert record["pairs"] == {"fused": 10} and record["latency_ms"]["p50"] > 0
    assert record["engine"]["model"] == "mean" and record["read"] == {"infrared": 10, "visible": 10}
