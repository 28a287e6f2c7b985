"""Other programs' calibration files: read back as written, by OpenCV too, and nothing in them is run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from fusepipe.calibration.board.stereo import Pose
from fusepipe.calibration.file import exchange
from fusepipe.calibration.file.model import make_stereo_calibration
from fusepipe.calibration.file.storage import load_calibration, save_calibration
from fusepipe.calibration.lens import Lens
from fusepipe.cli import cli
from fusepipe.core.errors import SourceError, UsageError

INFRARED = Lens((160, 120), 150.0, 151.0, 80.0, 60.0, (-0.2, 0.05, 0.001, 0.0))
VISIBLE = Lens((320, 240), 290.0, 290.0, 161.0, 119.0, (0.1, 0.02, 0.0, 0.01), "fisheye")
POSE = Pose(np.asarray(cv2.Rodrigues(np.array([0.02, -0.03, 0.01]))[0], np.float64), np.array([0.08, -0.01, 0.02]))
RIG = make_stereo_calibration(INFRARED, VISIBLE, POSE, 5.0)


@pytest.mark.parametrize("form", ["opencv", "kalibr"])
def test_there_and_back(form: str, tmp_path: Path) -> None:
    ours, theirs, back = tmp_path / "rig.yaml", tmp_path / "theirs.yml", tmp_path / "back.yaml"
    save_calibration(RIG, ours)
    for arguments in (["--to", form, "-o", theirs, ours], ["--plane-distance", "5m", "-o", back, theirs]):
        ran = CliRunner().invoke(cli, ["calibrate", "convert", *map(str, arguments)])
        assert ran.exit_code == 0, ran.output
    read = load_calibration(back)
    assert read.lenses() == RIG.lenses()
    assert read.rig_pose().rotation == pytest.approx(POSE.rotation)
    assert read.plane_distance_m == 5.0
    assert exchange.detect_format(theirs) == form


def test_opencv_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "stereo.yml"
    path.write_text(exchange.opencv_text(RIG))
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    assert storage.getNode("K1").mat() == pytest.approx(INFRARED.matrix)
    assert storage.getNode("T").mat().ravel() == pytest.approx(POSE.translation_m)
    storage.release()


def test_what_opencv_writes_is_read_with_either_camera_first(tmp_path: Path) -> None:
    path = tmp_path / "stereo.yml"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for name, value in (
        ("M1", INFRARED.matrix),
        ("D1", np.array([INFRARED.distortion])),
        ("M2", INFRARED.matrix * np.array([[2.0], [2.0], [1.0]])),
        ("D2", np.zeros((1, 5))),
        ("R", POSE.rotation),
        ("T", POSE.translation_m.reshape(3, 1)),
    ):
        storage.write(name, value)
    for name, value in (("image_width", 320), ("image_height", 240)):
        storage.write(name, value)
    storage.release()
    first = exchange.read(path, "opencv", 3.0)
    other = exchange.read(path, "opencv", 3.0, infrared_camera=1)
    assert first.lenses() == other.lenses()[::-1]
    both = np.eye(4)
    for pose in (first.rig_pose(), other.rig_pose()):
        both = np.vstack([np.column_stack([pose.rotation, pose.translation_m]), [0, 0, 0, 1]]) @ both
    assert both == pytest.approx(np.eye(4), abs=1e-9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%YAML:1.0\n---\nK1: 3\n", "has no matrix K1"),
        ("cam0:\n  camera_model: omni\n", "pinhole with radtan"),
        ("cam0: !!python/object/apply:os.system [echo]\n", "is not valid YAML"),
        ("cam0: [\n", "is not valid YAML"),
        ("nothing: here\n", "neither fusepipe's"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        exchange.read(path, exchange.detect_format(path), 3.0)


def test_missing_features_of_a_format_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text(exchange.opencv_text(RIG))
    with pytest.raises(UsageError, match="has no plane distance"):
        exchange.read(path, "opencv", None)
    long = make_stereo_calibration(replace(INFRARED, distortion=(0.1, 0, 0, 0, 0.3)), VISIBLE, POSE, 5.0)
    with pytest.raises(UsageError, match="has k3"):
        exchange.kalibr_text(long)


IN_MM = make_stereo_calibration(
    INFRARED, VISIBLE, Pose(POSE.rotation, np.array([-60.0, 0.0, 0.0])), 5.0
)  # as a program writes it whose board was given in millimetres


@pytest.mark.parametrize("form", ["opencv", "kalibr"])
def test_a_baseline_in_millimetres_is_refused_and_unit_mm_reads_it(form: str, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.yml", tmp_path / "ours.yaml"
    theirs.write_text(exchange.opencv_text(IN_MM) if form == "opencv" else exchange.kalibr_text(IN_MM))

    def convert(*arguments: str) -> Result:
        command = ["calibrate", "convert", str(theirs), "-o", str(ours), "--plane-distance", "10m", "--overwrite"]
        return CliRunner().invoke(cli, [*command, *arguments])

    refused = convert()
    assert isinstance(refused.exception, UsageError) and not ours.exists()
    assert "60 m apart" in str(refused.exception) and "--unit mm" in str(refused.exception)
    for unit, metres in (("mm", 0.06), ("cm", 0.6), ("m", 60.0)):
        ran = convert("--unit", unit)
        assert ran.exit_code == 0, ran.output
        assert load_calibration(ours).rig_pose().baseline_m == pytest.approx(metres)


def test_the_other_camera_first_is_scaled_too(tmp_path: Path) -> None:
    path = tmp_path / "theirs.yml"
    path.write_text(exchange.opencv_text(IN_MM))
    read = exchange.read(path, "opencv", 10.0, infrared_camera=1, unit="mm")
    assert read.rig_pose().baseline_m == pytest.approx(0.06)


def test_two_metres_are_accepted_and_our_own_files_have_no_unit(tmp_path: Path) -> None:
    far = make_stereo_calibration(INFRARED, VISIBLE, Pose(POSE.rotation, np.array([-2.0, 0.0, 0.0])), 5.0)
    path = tmp_path / "theirs.yml"
    path.write_text(exchange.opencv_text(far))
    assert exchange.read(path, "opencv", 10.0).rig_pose().baseline_m == pytest.approx(2.0)
    ours = tmp_path / "ours.yaml"
    save_calibration(RIG, ours)
    with pytest.raises(UsageError, match="in metres"):
        exchange.read(ours, "fusepipe", None, unit="mm")
