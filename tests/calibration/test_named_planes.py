"""Planes of a calibration file: read back as written, chosen by name, added while the others are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fusepipe.calibration.board.stereo import Pose, plane_homography
from fusepipe.calibration.file.model import Calibration, make_calibration, make_stereo_calibration
from fusepipe.calibration.file.named_planes import at_plane, plane_names, with_plane
from fusepipe.calibration.file.nudge import Nudge, nudged
from fusepipe.calibration.file.storage import load_calibration, save_calibration
from fusepipe.calibration.lens import Lens
from fusepipe.core.errors import ConfigError, UsageError

IR, VIS = (320, 240), (640, 480)
FAR = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]])
NEAR = np.array([[1.0, 0.0, -6.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ FAR
TILTED = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5], [1e-5, 0.0, 1.0]])
LENSES = (Lens(IR, 300.0, 300.0, 159.5, 119.5, ()), Lens(VIS, 600.0, 600.0, 319.5, 239.5, ()))
POSE = Pose(np.eye(3), np.array([0.06, 0.0, 0.0]))


def far() -> Calibration:
    return make_calibration("affine", IR, VIS, FAR, plane_distance_m=40.0).model_copy(update={"plane": "far"})


def test_planes_are_read_back_as_written_and_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "roof.calibration.yaml"
    save_calibration(with_plane(far(), "near", NEAR, 5.0), path)
    read = load_calibration(path)
    assert plane_names(read) == ("far", "near")
    for name, matrix, distance_m in ((None, FAR, 40.0), ("far", FAR, 40.0), ("near", NEAR, 5.0)):
        chosen = at_plane(read, name)
        assert np.array_equal(chosen.matrix3(), matrix) and chosen.plane_distance_m == distance_m
        assert not chosen.planes
    with pytest.raises(UsageError, match="has the planes far, near, not 'middle'"):
        at_plane(read, "middle")
    with pytest.raises(UsageError, match="has no named planes, not 'near'"):
        at_plane(make_calibration("affine", IR, VIS, FAR), "near")


def test_adding_a_plane_keeps_the_others_and_replacing_one_too() -> None:
    both = with_plane(far(), "near", NEAR, 5.0)
    tilted = with_plane(both, "gate", TILTED, None)
    assert tilted.kind == "homography" and plane_names(tilted) == ("far", "near", "gate")
    for name, matrix in (("far", FAR), ("near", NEAR), ("gate", TILTED)):
        assert np.array_equal(at_plane(tilted, name).matrix3(), matrix), "the others as homographies"
    moved = with_plane(with_plane(tilted, "near", FAR, None), "far", NEAR, 30.0)
    assert plane_names(moved) == ("far", "near", "gate")
    assert np.array_equal(at_plane(moved, "near").matrix3(), FAR) and at_plane(moved, "near").plane_distance_m is None
    assert np.array_equal(moved.matrix3(), NEAR) and moved.plane_distance_m == 30.0


def test_planes_of_known_geometry_are_distances() -> None:
    stereo = make_stereo_calibration(*LENSES, POSE, 30.0)
    added = with_plane(stereo, "5m", None, 5.0)
    assert np.allclose(at_plane(added, "5m").matrix3(), plane_homography(*LENSES, POSE, 5.0))
    assert np.allclose(added.matrix3(), plane_homography(*LENSES, POSE, 30.0))
    with pytest.raises(UsageError, match="near needs a plane_distance_m and no matrix"):
        with_plane(stereo, "near", NEAR, 5.0)


def test_a_nudge_moves_every_plane() -> None:
    nudge = Nudge(right=0.01, turn_deg=1.0)
    after = nudged(with_plane(far(), "near", NEAR, 5.0), nudge)
    assert plane_names(after) == ("far", "near") and after.plane == "far"
    for name, matrix in (("far", FAR), ("near", NEAR)):
        assert np.allclose(at_plane(after, name).matrix3(), nudge.matrix(VIS) @ matrix)


@pytest.mark.parametrize(
    ("planes", "said"),
    [
        ("planes: {near: {plane_distance_m: 5.0}}", "planes: near needs a matrix, since the kind is affine"),
        ("planes: {near: {matrix: [[1.0, 0.0, 0.0]]}}", "near: its matrix: should be 2 rows of 3 numbers"),
        ("planes: {near: {matrix: [[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]]}}", "near: its matrix: the calibration matrix is"),
        ("plane: near\nplanes: {near: {matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]}}", "is the file's own plane"),
        ("planes: {no good: {matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]}}", "no good"),
        ("planes: {near: {matrx: []}}", "did you mean 'matrix'?"),
        ("planes: {near: {matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], plane_distance_m: -5.0}}", "greater than 0"),
    ],
)
def test_impossible_planes_are_reported_with_their_line(tmp_path: Path, planes: str, said: str) -> None:
    path = tmp_path / "x.yaml"
    text = "fusepipe_calibration: 1\nkind: affine\ninfrared: {size: [320, 240]}\nvisible: {size: [640, 480]}\n"
    path.write_text(text + "matrix:\n- [2.0, 0.0, 0.5]\n- [0.0, 2.0, 0.5]\n" + planes + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_calibration(path)
    assert said in str(raised.value) and "x.yaml:" in str(raised.value)
