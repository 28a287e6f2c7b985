"""``calibrate scene --at``: planes of a rig by name, each registered to less than a pixel, or a reason why not."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from fusepipe.calibration.file.model import Calibration, make_calibration
from fusepipe.calibration.file.named_planes import at_plane, plane_names
from fusepipe.calibration.file.storage import load_calibration, save_calibration
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.cli import cli
from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.rig.factories.registration import make_aligner
from fusepipe.workflows.scene_planes import Place, calibrate_plane, parse_place
from tests.calibration.test_named_planes import LENSES, POSE
from tests.helpers.two_planes import FAR_M, INFRARED_SIZE, NEAR_M, SIZE, TRUE_MATRIX, TwoPlanes, parallax_px

# infrared pixels of the whole view, and of the object
WHOLE, OBJECT = (0, 0, 319, 239), (60, 75, 190, 225)


def error_px(calibration: Calibration, near: bool) -> float:
    """Of a map on its plane: the mean over the part of the view that shows it."""
    left, top, right, bottom = OBJECT if near else WHOLE
    x, y = np.meshgrid(np.linspace(left, right, 5), np.linspace(top, bottom, 5))
    points = np.stack([x.ravel(), y.ravel()], axis=1)[None]
    there = cv2.perspectiveTransform(points, calibration.matrix3()) - cv2.perspectiveTransform(points, TRUE_MATRIX)
    return float(np.hypot(there[..., 0] + (parallax_px(NEAR_M) if near else 0.0), there[..., 1]).mean())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rig = TwoPlanes()
    assert cv2.imwrite(str(tmp_path / "ir.png"), rig.infrared(0)) and cv2.imwrite(
        str(tmp_path / "vis.png"), rig.visible(0)
    )
    return tmp_path


def calibrate(folder: Path, *options: str) -> Result:
    inputs = ["calibrate", "scene", str(folder / "ir.png"), str(folder / "vis.png")]
    return CliRunner().invoke(cli, [*inputs, "-o", str(folder / "roof.yaml"), *options])


def known(plane: str = "far") -> Calibration:
    return make_calibration("affine", INFRARED_SIZE, SIZE, TRUE_MATRIX).model_copy(update={"plane": plane})


def pair() -> ScenePair:
    rig = TwoPlanes()
    return ScenePair(rig.infrared(0), rig.visible(0), "made")


@pytest.mark.slow
def test_far_and_near_from_the_same_pair_are_both_right(images: Path) -> None:
    ran = calibrate(images, "--at", "far", "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["planes"] == ["far"] and len(json.loads(ran.stdout)["shown"]) == 2
    assert error_px(load_calibration(images / "roof.yaml"), near=False) < 1.0
    ran = calibrate(images, "--at", "near")
    assert ran.exit_code == 0, ran.output
    assert "plane near:" in ran.stdout and "registration: {plane: near}" in ran.stdout
    both = load_calibration(images / "roof.yaml")
    assert plane_names(both) == ("far", "near")
    assert error_px(at_plane(both, "near"), near=True) < 1.0 and error_px(both, near=False) < 1.0


def test_a_plane_is_added_by_name_and_replaced_only_when_told(images: Path) -> None:
    path = images / "roof.yaml"
    save_calibration(known(), path)
    region = ("--at", "150,180,200,240", "--name", "gate")
    assert calibrate(images, *region).exit_code == 0
    first = load_calibration(path)
    assert plane_names(first) == ("far", "gate") and np.array_equal(first.matrix3(), TRUE_MATRIX)
    assert error_px(at_plane(first, "gate"), near=True) < 1.0
    again = calibrate(images, *region)
    assert again.exit_code != 0 and "has a plane gate already" in str(again.exception)
    assert calibrate(images, *region, "--overwrite").exit_code == 0
    assert load_calibration(path) == first


def test_a_rig_registers_the_plane_that_it_chooses(tmp_path: Path) -> None:
    path = tmp_path / "roof.yaml"
    near = calibrate_plane([pair()], Place("near", "near"), known()).calibration
    save_calibration(near, path)
    maps = {name: make_aligner(str(path), plane=name).alignment(INFRARED_SIZE, SIZE) for name in (None, "far", "near")}
    assert maps[None] is not None and maps["far"] is not None and maps["near"] is not None
    assert maps[None].version == maps["far"].version != maps["near"].version
    with pytest.raises(UsageError, match="has the planes far, near, not 'middle'"):
        make_aligner(str(path), plane="middle")
    with pytest.raises(UsageError, match="needs a calibration file"):
        make_aligner("synthetic://street", plane="near")


def test_the_opposite_plane_of_the_file_is_not_taken_for_the_wanted_one() -> None:
    far_only = TwoPlanes(near_m=FAR_M)
    only = ScenePair(far_only.infrared(0), far_only.visible(0), "far")
    with pytest.raises(FusepipeError, match="nothing but the plane far"):
        calibrate_plane([only], Place("near", "near"), known())
    assert calibrate_plane([only], Place("far", "far"), known()).replaced


def test_other_rigs_and_unknown_geometry_are_refused() -> None:
    turned = ScenePair(pair().infrared, np.ascontiguousarray(pair().visible[::-1, ::-1]), "turned")
    with pytest.raises(FusepipeError, match="do not agree with the calibration at any distance"):
        calibrate_plane([turned], Place("near", "near"), known())
    with pytest.raises(FusepipeError, match="show 2 planes; give --at x,y,width,height of 5m"):
        calibrate_plane([pair()], Place("5m", distance_m=5.0), known("wall"))
    other = make_calibration("affine", (160, 120), SIZE, TRUE_MATRIX @ np.diag([2.0, 2.0, 1.0]))
    with pytest.raises(UsageError, match="the pairs are 320x240 and 640x480, the calibration is for 160x120"):
        calibrate_plane([pair()], Place("near", "near"), other)
    with pytest.raises(UsageError, match="is not inside the visible image of 640x480"):
        calibrate_plane([pair()], Place("gate", region=(600, 0, 100, 50)), known())


def test_a_distance_of_known_geometry_needs_no_match() -> None:
    from fusepipe.calibration.file.model import make_stereo_calibration

    stereo = make_stereo_calibration(*LENSES, POSE, 30.0)
    result = calibrate_plane([pair()], Place("5m", distance_m=5.0), stereo)
    assert result.found is None and plane_names(result.calibration) == ("5m",)
    assert np.allclose(at_plane(result.calibration, "5m").matrix3(), stereo.matrix3(5.0))
    with pytest.raises(UsageError, match="give the distance of near, such as 5m"):
        calibrate_plane([pair()], Place("near", "near"), stereo)


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("5", None, "is neither near, far, a distance"),
        ("middle", None, "is neither near, far, a distance"),
        ("-5m", None, "distance"),
        ("0m", None, "distance"),
        ("1,2,3", "gate", "a region is x,y,width,height"),
        ("1,2,30,0", "gate", "a region is x,y,width,height"),
        ("1,2,30,40", None, "give the plane of a region a name"),
        ("near", "no good", "--name no good: a name has letters"),
    ],
)
def test_a_place_that_is_none_is_refused_with_the_fix(text: str, name: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_place(text, name)
    assert parse_place("near") == Place("near", "near")
    assert parse_place("550cm") == Place("5.5m", distance_m=5.5)
    assert parse_place("1,2,30,40", "gate") == Place("gate", region=(1, 2, 30, 40))
