"""A recording of a slow infrared camera with the images between its own computed: states, picture, counts."""

import json

import av
import cv2
import numpy as np
import pytest
import yaml
from helpers.rig_files import RIG, problems

from fusepipe.rig.api import Pipeline, load_rig

Y, X = np.mgrid[:120, :160]
TEXTURE = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 900, (120, 160)), (0, 0), 3)
STEPS = 4  # visible frames for each infrared one


def image(time):
    """16-bit counts: a hot disc that moves 3 pixels to the right for each visible frame."""
    hot = (X - 30 - 3 * time) ** 2 + (Y - 60) ** 2 < 100
    return cv2.GaussianBlur(8000 + TEXTURE + 1500 * hot, (0, 0), 1).astype(np.uint16)


def run(folder, images, on_missing="interpolate", *, infrared=None, **sink):
    """The report, the fused frames and the sidecar's lines of a run; the visible images are black."""
    np.array(images, "<u2").tofile(folder / "ir.raw")
    count = STEPS * (len(images) - 1) + 1
    cv2.imwritemulti(str(folder / "vis.tif"), [np.zeros((120, 160), np.uint8)] * count)
    rig = {
        "infrared": {"url": "ir.raw", "raw": {"size": "160x120"}, "fps": 5, "range": [6000, 11000], **(infrared or {})},
        "visible": {"url": "vis.tif", "fps": 20},
        "sync": {"on_missing": on_missing},
        "fusion": {"model": "max"},
        "sinks": [{"file": "out.mkv", "codec": "ffv1", "sidecar": "on", **sink}],
    }
    (folder / "rigs.yaml").write_text(yaml.safe_dump({"schema": 1, "rigs": {"r": rig}}))
    for old in folder.glob("out*"):
        old.unlink()
    report = Pipeline(load_rig(folder / "rigs.yaml")).run()
    with av.open(str(folder / "out.mkv")) as container:
        shown = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
    (sidecar,) = folder.glob("out*.jsonl")
    return report, shown, [json.loads(line) for line in sidecar.read_text().splitlines()]


def hot_at(shown):
    hot = shown > 0.5 * (shown.max() + np.median(shown))
    return X[hot].mean()


def test_an_object_moves_evenly_and_only_captured_images_count(tmp_path):
    images = [image(STEPS * index) for index in range(5)]
    report, shown, lines = run(tmp_path, images)
    assert report.pairs == {"fused": 5, "interpolated": 12} and report.warnings == []
    assert report.shortfall is None
    off = [hot_at(one) - (30 + 3 * time) for time, one in enumerate(shown)]
    assert max(map(abs, off)) < 2.5, off
    _, held, _ = run(tmp_path, images, "hold")
    assert max(abs(hot_at(one) - (30 + 3 * time)) for time, one in enumerate(held)) > 5
    assert all((shown[time] == held[time]).all() for time in range(0, 17, STEPS)), "the camera's own images"
    frames = [line for line in lines if "state" in line]
    assert [line["state"] for line in frames[:5]] == ["fused", *["interpolated"] * 3, "fused"]
    assert [line["infrared"]["frame"] for line in frames[:5]] == [0, 0, 0, 0, 1], "the captured one before it"


def test_dead_pixels_are_repaired_before_images_are_moved(tmp_path):
    images = [image(STEPS * index) for index in range(3)]
    clean, whole, _ = run(tmp_path, images)
    for one in images:
        one[60, 40] = 11000
    _, repaired, _ = run(tmp_path, images, infrared={"repair": {"dead_pixels": [[40, 60]]}})
    assert clean.pairs["interpolated"] == 6
    assert max(np.abs(a - b).max() for a, b in zip(whole, repaired, strict=True)) < 40


def test_frozen_images_and_cuts_are_held(tmp_path):
    rng = np.random.default_rng(2)
    cut = rng.permutation(image(0).ravel()).reshape(120, 160)
    report, _, _ = run(tmp_path, [image(0), image(0), cut, cut])
    assert report.pairs == {"fused": 4, "held": 9}


def test_recorded_counts_are_those_of_the_camera(tmp_path):
    images = [image(STEPS * index) for index in range(3)]
    run(tmp_path, images, infrared_track="on")
    with av.open(str(tmp_path / "out.mkv")) as container:
        counts = [frame.to_ndarray() for frame in container.decode(video=1)]
    assert len(counts) == 3 and all((a == b).all() for a, b in zip(counts, images, strict=True))


@pytest.mark.parametrize(
    ("url", "keys", "message"),
    [
        ("rtsp://10.0.0.8/ir", "", "sync.on_missing: interpolate is for recordings"),
        ("ir.mkv", ", reference: infrared", "sync.on_missing: interpolate computes infrared images"),
    ],
)
def test_what_cannot_be_interpolated_is_refused(tmp_path, url, keys, message):
    text = RIG.replace("ir.mkv", url).replace("SECTION", f"sync: {{on_missing: interpolate{keys}}}")
    (found,) = problems(tmp_path, text.replace("SINK", "{file: o.mkv}"))
    assert message in found
