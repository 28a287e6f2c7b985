"""Pairs for the calibration from a scene: recordings are paired by capture time and sampled over their whole length."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import av
import cv2
import numpy as np
import pytest

from fusepipe.calibration.scene.registration import SceneResult
from fusepipe.core.errors import SourceError, UsageError
from fusepipe.workflows.probe_report import RecordingTiming
from fusepipe.workflows.scene_pairs import SceneInput, read_pairs, read_scene
from tests.helpers.walkers import NARROW, walkers

LEVELS_PER_S = 6  # grey levels by which the recorded frames brighten each second


def record(path: Path, fps: int, duration_s: float, size: tuple[int, int], start_s: float = 0.0) -> Path:
    """A lossless clip whose grey level is its capture time; the container does not say how many frames it has."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "gray"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(round(duration_s * fps)):
            time_s = start_s + index / fps
            level = round(20 + LEVELS_PER_S * time_s)
            frame = av.VideoFrame.from_ndarray(np.full(size[::-1], level, np.uint8), "gray")
            frame.pts, frame.time_base = round(1000 * time_s), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def seconds(image: np.ndarray) -> float:
    """The capture time that a recorded frame shows."""
    return (float(np.median(image)) - 20) / LEVELS_PER_S


@pytest.mark.parametrize(("infrared_fps", "visible_fps"), [(5, 20), (20, 5), (9, 25)])
def test_recordings_of_different_rates_are_paired_by_time(tmp_path: Path, infrared_fps: int, visible_fps: int) -> None:
    infrared = record(tmp_path / "ir.mkv", infrared_fps, 30, (32, 24))
    visible = record(tmp_path / "vis.mkv", visible_fps, 30, (64, 48))
    pairs = read_pairs(str(infrared), str(visible), 12)
    assert len(pairs) == 12
    for pair in pairs:
        # half a grey level of rounding in each frame, and half a frame of the faster camera
        assert seconds(pair.infrared) == pytest.approx(seconds(pair.visible), abs=0.21)
        assert float(pair.name.removesuffix("s")) == pytest.approx(seconds(pair.visible), abs=0.1)


def test_live_cameras_are_refused_with_the_way_to_record_them() -> None:
    live = "synthetic://street?pace=real&size=80x60&band="
    with pytest.raises(UsageError, match=r"docs/rigs/record-pair\.yaml"):
        read_scene(f"{live}infrared", f"{live}visible")


def test_false_colours_are_registered_by_the_order_of_their_palette(tmp_path: Path) -> None:
    grey = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (120, 160), np.uint8), (0, 0), 6)
    grey = np.asarray(cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX), np.uint8)
    cv2.imwrite(str(tmp_path / "ir.png"), cv2.applyColorMap(grey, cv2.COLORMAP_JET))
    cv2.imwrite(str(tmp_path / "vis.png"), np.roll(grey, 40, axis=1))
    (pair,) = read_pairs(str(tmp_path / "ir.png"), str(tmp_path / "vis.png"))
    luma = cv2.imread(str(tmp_path / "ir.png"), cv2.IMREAD_GRAYSCALE)
    order, by_luma = (np.corrcoef(image.ravel(), grey.ravel())[0, 1] for image in (pair.infrared, luma))
    assert order > 0.99 and by_luma < 0.5


def test_false_colours_of_recordings_too(tmp_path: Path) -> None:
    grey = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (120, 160), np.uint8), (0, 0), 6)
    grey = np.asarray(cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX), np.uint8)
    for name, image in (("ir", cv2.applyColorMap(grey, cv2.COLORMAP_JET)), ("vis", cv2.merge([grey, grey, grey]))):
        with av.open(str(tmp_path / f"{name}.mkv"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 160, 120, "yuv420p", 4_000_000
            for _ in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
            container.mux(stream.encode(None))
    pairs = read_pairs(str(tmp_path / "ir.mkv"), str(tmp_path / "vis.mkv"))
    assert len(pairs) == 4
    for pair in pairs:
        assert np.corrcoef(pair.infrared.ravel(), grey.ravel())[0, 1] > 0.97


def moving(path: Path, late_s: float, inverted: bool = False) -> Path:
    """Eight seconds of stripes that move now and then, and a grey level that is the time; the clock is late."""
    speed = np.repeat(np.random.default_rng(5).uniform(0, 40, 40), 5)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        for index in range(200 - round(late_s * 25)):
            at_s = late_s + index / 25
            place = float(np.interp(at_s * 25, np.arange(200), np.cumsum(speed) / 25))
            image = np.full((48, 64), round(20 + LEVELS_PER_S * at_s), np.uint8)
            image[:, :30] = np.round(128 + (-90 if inverted else 90) * np.sin((np.arange(30) + place) * 0.4))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "gray")))
        container.mux(stream.encode(None))
    return path


def test_recordings_that_started_at_different_times_are_paired_by_motion(tmp_path: Path) -> None:
    infrared, visible = moving(tmp_path / "ir.mkv", 0.4, inverted=True), moving(tmp_path / "vis.mkv", 0.0)
    scene = read_scene(str(infrared), str(visible), 6)
    assert scene.timing is not None and scene.timing.motion is not None and scene.timing.sure
    offset_ms, error_ms = (ns / 1e6 for ns in (scene.timing.motion.offset_ns, scene.timing.motion.uncertainty_ns))
    assert offset_ms == pytest.approx(400, abs=15) and error_ms < 40
    assert scene.timing.offset_key == f"sync: {{offset: {offset_ms:.0f}ms}}"
    assert scene.timing.shutter is not None and abs(scene.timing.shutter.skew_ns) < 8_000_000
    for pair in scene.pairs:
        assert np.median(pair.infrared[:, 32:]) == pytest.approx(np.median(pair.visible[:, 32:]), abs=1)
    still = read_scene(*(str(record(tmp_path / f"{n}.mkv", 25, 8, (32, 24))) for n in ("a", "b")), 6)
    assert still.timing is not None and not still.timing.sure and still.timing.offset_key == ""


def test_a_registered_scene_tells_the_offset_that_its_whole_images_do_not() -> None:
    infrared, visible = walkers(1, late_ms=400, view=NARROW), walkers(1)
    timing = RecordingTiming.measured(infrared, visible)
    scene = SceneInput([], timing, (infrared, visible))
    matrix = np.diag([640.0, 480.0, 1.0]) @ NARROW @ np.diag([1 / 320, 1 / 240, 1.0])
    registered = SimpleNamespace(infrared_size=(320, 240), visible_size=(640, 480), matrix=matrix, refusal="")
    found = scene.timing_with(cast(SceneResult, registered))
    assert not timing.sure and found is not None and found.motion is not None and found.sure
    assert found.motion.offset_ns / 1e6 == pytest.approx(400, abs=40)
    registered.refusal = "too little agrees"
    assert scene.timing_with(cast(SceneResult, registered)) == timing


def test_a_recording_of_unknown_length_is_sampled_to_its_end(tmp_path: Path) -> None:
    infrared = record(tmp_path / "ir.mkv", 25, 36, (32, 24))
    visible = record(tmp_path / "vis.mkv", 25, 36, (64, 48))
    times_s = [seconds(pair.visible) for pair in read_pairs(str(infrared), str(visible), 8)]
    assert len(times_s) == 8 and times_s[0] < 1 and times_s[-1] > 33
    assert np.diff(times_s) == pytest.approx(np.full(7, 36 / 8), abs=1.5), "evenly spread"


def test_fewer_frames_than_wanted_are_all_taken(tmp_path: Path) -> None:
    infrared = record(tmp_path / "ir.mkv", 10, 0.5, (32, 24))
    visible = record(tmp_path / "vis.mkv", 10, 0.5, (64, 48))
    assert [pair.name for pair in read_pairs(str(infrared), str(visible), 24)] == [
        "0.00s",
        "0.10s",
        "0.20s",
        "0.30s",
        "0.40s",
    ]


@pytest.mark.parametrize("form", ["tif", "webp", "png"])
def test_image_files_with_several_frames_are_recordings(tmp_path: Path, form: str) -> None:
    for name, size in (("ir", (24, 32)), ("vis", (48, 64))):
        frames = [np.full((*size, 3), 20 + 30 * index, np.uint8) for index in range(4)]
        path = str(tmp_path / f"{name}.{form}")
        if form == "tif":
            assert cv2.imwritemulti(path, frames)
        else:
            animation = cv2.Animation()
            animation.frames, animation.durations = frames, [100] * 4
            assert cv2.imwriteanimation(path, animation, [cv2.IMWRITE_WEBP_QUALITY, 101] if form == "webp" else [])
    pairs = read_pairs(str(tmp_path / f"ir.{form}"), str(tmp_path / f"vis.{form}"))
    levels = [20, 50, 80, 110]
    assert [round(float(np.median(pair.infrared))) for pair in pairs] == pytest.approx(levels, abs=1)
    assert [round(float(np.median(pair.visible))) for pair in pairs] == pytest.approx(levels, abs=1)


def test_recordings_that_do_not_overlap_have_no_pairs(tmp_path: Path) -> None:
    infrared = record(tmp_path / "ir.mkv", 10, 1, (32, 24))
    visible = record(tmp_path / "vis.mkv", 10, 1, (64, 48), start_s=20)
    with pytest.raises(SourceError, match="no infrared frame was captured at the time of a visible one"):
        read_pairs(str(infrared), str(visible))


PARTS = {"infrared": {"crop": (0, 24, 32, 24), "rotate": 180}, "visible": {"crop": (0, 0, 32, 24)}}


@pytest.mark.parametrize("kind", ["images", "folders", "recordings"])
def test_two_panels_of_one_input(tmp_path: Path, kind: str) -> None:
    panels = np.random.default_rng(0).integers(0, 256, (48, 32, 3), dtype=np.uint8)
    if kind == "recordings":
        path = tmp_path / "both.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 48, "gray"
            panels[:] = panels[..., :1]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(panels[..., 0]), "gray")))
            container.mux(stream.encode(None))
    else:
        path = tmp_path / "both" / "1.png"
        path.parent.mkdir()
        assert cv2.imwrite(str(path), panels)
        path = path.parent if kind == "folders" else path
    (pair,) = read_pairs(str(path), str(path), keys=PARTS)
    luma = cv2.cvtColor(panels, cv2.COLOR_BGR2YCrCb)[..., 0] if kind != "recordings" else panels[..., 0]
    assert np.abs(pair.infrared.astype(int) - luma[24:][::-1, ::-1]).max() <= 1
    assert np.array_equal(pair.visible, luma[:24])
    with pytest.raises(SourceError, match=r"crop of 33x24 at \(0, 0\) does not fit into the image of 32x48"):
        read_pairs(str(path), str(path), keys={"visible": {"crop": (0, 0, 33, 24)}})
