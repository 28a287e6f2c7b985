"""The stated uncertainty of a focal length covers what another lens model or other views give."""

from __future__ import annotations

import cv2
import numpy as np
from helpers.board_images import BOARD, VISIBLE, placements

from fusepipe.calibration.board.intrinsics import View, calibrate_camera
from fusepipe.calibration.board.point_detection import Detection
from fusepipe.calibration.lens import Lens


def views(lens: Lens, count: int, seed: int, bend_m: float = 0.0) -> list[View]:
    """Points of a board that is bent by ``bend_m`` at its sides, with a noise of 0.1 px."""
    random = np.random.default_rng(seed)
    points = BOARD.points().astype(np.float64)
    across = points[:, 0] - points[:, 0].mean()
    points[:, 2] += bend_m * (across / np.abs(across).max()) ** 2
    made = []
    for number, (rotation, translation) in enumerate(placements(count, seed)):
        there = points @ rotation.T + translation
        seen = lens.project(there[:, :2] / there[:, 2:]) + random.normal(0, 0.1, (len(points), 2))
        made.append(View(str(number), Detection(seen.astype(np.float32), np.arange(BOARD.count), "made")))
    return made


def test_it_covers_other_views_of_a_bent_board() -> None:
    solved = [
        calibrate_camera(views(VISIBLE, 12, seed, 0.004), BOARD, VISIBLE.size, "pinhole", "") for seed in range(4)
    ]
    focal = [one.lens.fx for one in solved]
    stated = float(np.mean([one.deviations[0] for one in solved]))
    assert 0.5 * np.std(focal) < stated < 6 * np.std(focal), (focal, stated)


def difference_px(seen: list[View]) -> tuple[float, float, float]:
    """Focal length with all coefficients less that with two, its stated deviation, and that for independent noise."""
    objects = [BOARD.points().reshape(-1, 1, 3)] * len(seen)
    images = [view.detection.points.reshape(-1, 1, 2) for view in seen]
    solved = [
        cv2.calibrateCameraExtended(objects, images, VISIBLE.size, None, None, flags=flags)
        for flags in (0, cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K3)
    ]
    (full, formal), (simple, _) = ((float(one[1][0, 0]), float(one[5][0, 0])) for one in solved)
    return abs(full - simple), calibrate_camera(seen, BOARD, VISIBLE.size, "pinhole", "").deviations[0], formal


def test_it_covers_two_lens_models_that_fit_equally_well() -> None:
    difference, stated, formal = difference_px(views(VISIBLE, 12, 1, 0.008))
    assert difference > 2.0, "the models agree: this tests nothing"
    assert stated > difference and stated > 1.3 * formal


def test_a_lens_model_that_does_not_fit_does_not_count() -> None:
    bent = Lens(VISIBLE.size, 600.0, 601.0, 322.0, 238.0, (-0.35, 0.6, 0.008, 0.008, -2.0))
    difference, stated, formal = difference_px(views(bent, 12, 1))
    assert difference > 5.0 > 2.0 * formal, "the models agree: this tests nothing"
    assert stated < 2.0 * formal
