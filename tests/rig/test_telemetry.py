"""Telemetry rows of a thermal core in a run: cut off, read, and corrections that do not pump the picture."""

import av
import cv2
import numpy as np
import pytest
import yaml
from helpers.rig_files import RIG, problems
from helpers.telemetry_rows import boson_words, lepton_words, rows_of

from fusepipe.rig.api import Pipeline, load_rig

Y, X = np.mgrid[:120, :160]
SCENE = (8000 + 3 * X + 2 * Y).astype(np.uint16)
SHUTTER = (8400 + 12 * X).astype(np.uint16)  # warm, with a gradient, partly within the counts of the scene
CORRECTION = range(4, 9)


def frames(image_of, ffc_of, words=lepton_words, **values):
    """14 frames of the scene with rows below it; those of the correction show the shutter."""
    made = []
    for index in range(14):
        rows = rows_of(words(ffc_of(index), **values), 160)
        made.append(np.vstack([image_of(index), rows]))
    return made


def correcting(index):
    return "in progress" if index in CORRECTION else "complete"


def seen(index):
    return SHUTTER if index in CORRECTION else SCENE


def run(folder, images, telemetry="lepton", **keys):
    np.array(images).tofile(folder / "ir.raw")
    (folder / "vis").mkdir(exist_ok=True)
    for index in range(len(images)):
        cv2.imwrite(str(folder / "vis" / f"{index:04d}.png"), np.zeros(images[0].shape, np.uint8))
    infrared = {"url": "ir.raw", "raw": {"size": f"160x{len(images[0])}"}, "fps": 10, "telemetry": telemetry, **keys}
    rig = {
        "infrared": infrared,
        "visible": {"url": "vis", "fps": 10},
        "sync": {"pair_by": "time"},
        "fusion": {"model": "max"},
        "sinks": [{"file": "out.mkv", "codec": "ffv1"}],
    }
    (folder / "rigs.yaml").write_text(yaml.safe_dump({"schema": 1, "rigs": {"r": rig}}))
    (folder / "out.mkv").unlink(missing_ok=True)
    report = Pipeline(load_rig(folder / "rigs.yaml")).run()
    with av.open(str(folder / "out.mkv")) as container:
        return [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)], report


def test_a_correction_does_not_pump_the_picture_and_is_in_the_report(tmp_path):
    shown, report = run(tmp_path, frames(seen, correcting))
    assert len(shown) == 14 and report.warnings == []
    assert report.pairs["held"] == len(CORRECTION) and report.pairs["fused"] == 14 - len(CORRECTION)
    assert np.abs(shown[9] - shown[3])[:120].max() <= 1
    core = report.sources["infrared"]["telemetry"]
    assert (core["ffc"], core["frames"], core["ffc_frames"], core["ffcs"]) == ("complete", 14, len(CORRECTION), 1)
    assert (core["fpa_c"], core["housing_c"]) == (34.0, 32.85)
    blind, report = run(tmp_path, frames(seen, lambda index: "complete"))
    assert np.abs(blind[9] - blind[3])[:120].max() > 30, "without the telemetry the shutter moves the levels"
    assert report.pairs == {"fused": 14}


@pytest.mark.parametrize(
    ("telemetry", "images", "problem"),
    [
        ("lepton", frames(seen, correcting, revision=0), "no telemetry of a lepton (revision 0)"),
        (
            {"camera": "boson", "position": "below"},
            frames(seen, correcting, boson_words, revision=9, width=160),
            "no telemetry of a boson (revision 9)",
        ),
    ],
)
def test_unknown_telemetry_is_cut_off_and_that_is_said_once(tmp_path, telemetry, images, problem):
    shown, report = run(tmp_path, images, telemetry)
    (warning,) = report.warnings
    assert problem in warning and "cut off, not read" in warning and "ir.raw" in warning
    assert "telemetry" not in report.sources["infrared"] and report.sources["infrared"]["height"] == 120
    assert report.pairs == {"fused": 14} and len(shown) == 14


def test_rows_of_another_camera_are_cut_off(tmp_path):
    _, report = run(tmp_path, frames(seen, correcting), {"camera": "other", "rows": 2, "position": "below"})
    assert report.warnings == [] and report.sources["infrared"]["height"] == 120


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("telemetry: tau", "lepton"),
        ("telemetry: {camera: other}", "needs rows"),
        ("telemetry: {camera: lepton, rows: 0}", "rows"),
        ("telemetry: {camera: lepton, position: left}", "'above' or 'below'"),
    ],
)
def test_bad_keys_are_one_problem_each(tmp_path, value, message):
    rig = RIG.replace("SECTION", "output: {}").replace("SINK", "{file: out.mkv}")
    (found,) = problems(tmp_path, rig.replace("{url: ir.mkv}", f"{{url: ir.mkv, {value}}}"))
    assert message in found
