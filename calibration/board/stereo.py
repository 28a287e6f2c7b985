"""Stereo calibration: the relative pose of two cameras from simultaneous views of one board.

It also checks that there is one pose: cameras that moved relative to each other between the views, or boards that moved
between the two exposures, cause a stereo error far above each camera's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.board.intrinsics import OUTLIER_RATIO, View
from fusepipe.calibration.board.point_detection import Detection
from fusepipe.calibration.board.target import MARKED, Board
from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3
from fusepipe.core.blas import one_blas_thread
from fusepipe.core.errors import UsageError

MIN_PAIRS = 3
LOOSE_RATIO = 3.0  # stereo error over the cameras' own
LOOSE_FLOOR_PX = 1.0
MAX_BASELINE_M = 2.0
"""Cameras that are further apart are not impossible, but a wrong unit of length is likelier."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pose:
    """``rotation`` 3x3 and ``translation_m`` (3) take a point of the infrared camera to the visible camera:

    ``X_visible = rotation X_infrared + translation``; x to the right, y down, z forward.
    """

    rotation: Array
    translation_m: Array

    @property
    def baseline_m(self) -> float:
        return float(np.linalg.norm(self.translation_m))

    @property
    def angle_deg(self) -> float:
        """The rotation angle between the cameras."""
        return float(np.degrees(np.linalg.norm(cv2.Rodrigues(self.rotation)[0])))


@dataclass(frozen=True, slots=True)
class StereoResult:
    """``errors_px`` has (infrared, visible) root mean square reprojection error of each kept pair, by name.

    ``loose`` is the reason why this is not one rigid, synchronous rig; empty where it is.
    """

    pose: Pose
    rms_px: float
    errors_px: dict[str, tuple[float, float]]
    rejected: dict[str, float]
    board_distance_m: float
    loose: str

    def warnings(self) -> list[str]:
        """What is unlikely about the pose."""
        if self.pose.baseline_m <= MAX_BASELINE_M:
            return []
        return [f"cameras {self.pose.baseline_m:g} m apart: check the side of a square in --board and its unit"]


def calibrate_stereo(
    pairs: Sequence[tuple[View, View]], board: Board, infrared: Lens, visible: Lens, own_rms_px: tuple[float, float]
) -> StereoResult:
    """The pose between two cameras whose lenses are known, from (infrared, visible) views of one board.

    ``own_rms_px`` are the cameras' own reprojection errors, by which the stereo error is judged. Raises
    :class:`UsageError` for fewer than three pairs with the board in both.
    """
    kept, rejected = [_same_way_up(pair, board) for pair in pairs], dict[str, float]()
    if len(kept) < MIN_PAIRS:
        raise UsageError(
            f"the board was found in both images of {len(kept)} {'pair' if len(kept) == 1 else 'pairs'}; {MIN_PAIRS} "
            "are the minimum, 15 are recommended"
        )
    while True:
        rms, pose, errors, distance = _solve(kept, board, infrared, visible)
        total = np.sqrt((errors**2).mean(axis=1))
        worst = int(np.argmax(total))
        few = len(kept) <= max(MIN_PAIRS, (2 * len(pairs) + 2) // 3)
        if total[worst] <= max(LOOSE_FLOOR_PX, OUTLIER_RATIO * float(np.median(total))) or few:
            break
        rejected[kept.pop(worst)[0].name] = round(float(total[worst]), 3)
    own = float(np.sqrt((own_rms_px[0] ** 2 + own_rms_px[1] ** 2) / 2))
    loose = ""
    if rms > max(LOOSE_FLOOR_PX, LOOSE_RATIO * own):
        loose = (
            "the two cameras are not one rigid rig that exposes at the same time: the reprojection errors are "
            f"{own_rms_px[0]:.2f} and {own_rms_px[1]:.2f} px for each camera alone, but {rms:.1f} px for both "
            "together. Fix both cameras to one mount, hold the board still while both expose, and take the pairs again"
        )
    names = [one.name for one, _ in kept]
    listed = {n: (round(float(a), 3), round(float(b), 3)) for n, (a, b) in zip(names, errors, strict=True)}
    return StereoResult(pose, round(rms, 4), listed, rejected, round(distance, 4), loose)


def _same_way_up(pair: tuple[View, View], board: Board) -> tuple[View, View]:
    """Reverses the order of the infrared points where it is opposite to that of the visible ones.

    The board's contrast may be inverted between the bands, and with it which corner the detector reports first. The
    cameras are assumed to be rotated by less than 90 degrees relative to each other.
    """
    infrared, visible = pair
    if board.kind in MARKED or len(infrared.detection.ids) != len(visible.detection.ids):
        return pair
    a, b = infrared.detection.points, visible.detection.points
    if float(np.dot(a[-1] - a[0], b[-1] - b[0])) >= 0:
        return pair
    turned = Detection(a[board.half_turn()], infrared.detection.ids, infrared.detection.how)
    return View(infrared.name, turned), visible


@one_blas_thread
def _solve(
    pairs: Sequence[tuple[View, View]], board: Board, infrared: Lens, visible: Lens
) -> tuple[float, Pose, Array, float]:
    """(rms, pose, Nx2 errors, mean distance of the boards). Both lenses are fixed.

    The points are undistorted first, so that pinhole and fisheye cameras can be combined.
    """
    points = board.points()
    objects: list[NDArray[Any]] = []
    left: list[NDArray[Any]] = []
    right: list[NDArray[Any]] = []
    for one, other in pairs:
        ids, first, second = np.intersect1d(one.detection.ids, other.detection.ids, return_indices=True)
        if len(ids) < 6:
            continue
        objects.append(points[ids].reshape(-1, 1, 3))
        for view, order, lens, into in ((one, first, infrared, left), (other, second, visible, right)):
            ideal = lens.rays(view.detection.points[order]) * (lens.fx, lens.fy) + (lens.cx, lens.cy)
            into.append(ideal.reshape(-1, 1, 2).astype(np.float32))
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 200, 1e-8)
    zero = np.zeros(5)
    solved = cv2.stereoCalibrateExtended(
        objects,
        left,
        right,
        infrared.matrix,
        zero,
        visible.matrix,
        zero,
        visible.size,
        np.eye(3),
        np.zeros((3, 1)),
        flags=cv2.CALIB_FIX_INTRINSIC,
        criteria=criteria,
    )
    rms, rotation, translation, shifts, errors = solved[0], solved[5], solved[6], solved[-2], solved[-1]
    distance = float(np.mean([np.ravel(shift)[2] for shift in shifts]))
    pose = Pose(np.asarray(rotation, np.float64), np.asarray(translation, np.float64).ravel())
    return float(rms), pose, np.asarray(errors, np.float64).reshape(-1, 2), distance


def plane_homography(infrared: Lens, visible: Lens, pose: Pose, distance_m: float) -> Matrix3:
    """Infrared to visible pixel, without distortion, for points of the plane ``z = distance`` of the visible camera.

    ``H = K_v (R^T - (R^T t) n^T / d)^-1 K_i^-1`` with n = (0, 0, 1): R. Hartley and A. Zisserman, "Multiple
    View Geometry", 2nd edition, equation 13.2.
    """
    back = pose.rotation.T
    to_infrared = back - np.outer(back @ pose.translation_m, (0.0, 0.0, 1.0)) / distance_m
    matrix = visible.matrix @ np.linalg.inv(to_infrared) @ np.linalg.inv(infrared.matrix)
    return np.asarray(matrix / matrix[2, 2], np.float64)
