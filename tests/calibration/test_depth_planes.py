"""Planes at several distances: each with a map that holds there, and none where nothing agrees."""

from __future__ import annotations

import cv2
import numpy as np

from fusepipe.calibration.scene.depth_planes import MIN_BLOCKS, depth_planes, plane_shift
from fusepipe.calibration.scene.search import ScenePair
from tests.helpers.two_planes import FAR_M, NEAR_M, TRUE_MATRIX, TwoPlanes, parallax_px

NEAR_REGION = (150, 180, 200, 240)


def pair(rig: TwoPlanes) -> ScenePair:
    return ScenePair(rig.infrared(0), rig.visible(0), "made")


def test_each_plane_has_a_map_that_holds_there() -> None:
    for seeds in ((1, 2), (3, 4)):
        far, near = depth_planes([pair(TwoPlanes(seeds=seeds))], TRUE_MATRIX)
        assert np.hypot(*far.shift_px) < 0.5
        assert np.hypot(near.shift_px[0] + parallax_px(NEAR_M), near.shift_px[1]) < 0.5
        assert far.blocks > near.blocks > MIN_BLOCKS and near.middle[1] > far.middle[1] + 40, "the object is below"


def test_a_wrong_distance_to_start_from_does_not_matter() -> None:
    start = np.array([[1, 0, 20.0], [0, 1, -12.0], [0, 0, 1]]) @ TRUE_MATRIX
    far, near = depth_planes([pair(TwoPlanes())], start)
    for plane, shift in ((far, 0.0), (near, -parallax_px(NEAR_M))):
        found = plane_shift(TRUE_MATRIX, plane.matrix, (240, 320))
        assert np.hypot(found[0] - shift, found[1]) < 0.6
    assert np.hypot(far.shift_px[0] + 20, far.shift_px[1] - 12) < 0.6, "relative to the start"


def test_only_what_is_inside_of_a_region_counts() -> None:
    (near,) = depth_planes([pair(TwoPlanes())], TRUE_MATRIX, region=NEAR_REGION)
    assert np.hypot(near.shift_px[0] + parallax_px(NEAR_M), near.shift_px[1]) < 0.5
    x, y, width, height = NEAR_REGION
    assert x < near.middle[0] < x + width and y < near.middle[1] < y + height
    assert depth_planes([pair(TwoPlanes())], TRUE_MATRIX, region=(0, 0, 40, 30)) == []


def test_a_scene_at_one_distance_has_one_plane() -> None:
    (only,) = depth_planes([pair(TwoPlanes(near_m=FAR_M))], TRUE_MATRIX)
    assert np.hypot(*only.shift_px) < 0.3


def test_images_of_different_scenes_have_none() -> None:
    for seed in range(2):
        one, other = TwoPlanes(seeds=(10 + seed, 20 + seed)), TwoPlanes(seeds=(30 + seed, 40 + seed))
        assert depth_planes([ScenePair(one.infrared(0), other.visible(0), "mixed")], TRUE_MATRIX) == []
        turned = np.ascontiguousarray(cv2.rotate(one.visible(0), cv2.ROTATE_180))
        assert depth_planes([ScenePair(one.infrared(0), turned, "turned")], TRUE_MATRIX) == []
