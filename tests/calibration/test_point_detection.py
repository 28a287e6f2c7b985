"""Boards in 16-bit counts, and grids of circles."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.board_images import BOARD, INFRARED, draw, in_infrared, placements
from numpy.typing import NDArray

from fusepipe.calibration.board.point_detection import detect, detect_in_plane
from fusepipe.calibration.board.target import Board, parse_board
from fusepipe.calibration.gradient_field import to_luma8
from fusepipe.core.frames import Plane
from fusepipe.workflows.calibrate_board import read_folder

THERMAL = Board("checkerboard", 9, 6, 0.03)


def off_px(points: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Mean distance, whichever end of the board is up."""
    return min(float(np.hypot(*(one - expected).T).mean()) for one in (points, points[::-1]))


def test_a_board_that_is_heated_in_the_middle_is_found_in_16_bits() -> None:
    rotation, translation = in_infrared(*placements(3)[2])
    image = draw(INFRARED, rotation, translation, levels=(100, 124, 112), noise=0.5).astype(np.float64)
    y, x = np.mgrid[0:240, 0:320]
    heat = 6000 * np.exp(-((x - 150) ** 2 + (y - 120) ** 2) / (2 * 70**2))
    counts = np.asarray(20000 + 6 * image + heat, np.uint16)
    plane = Plane(counts, bit_depth=16)
    eight_bit = to_luma8(plane)
    assert np.ptp(eight_bit.astype(int)) > 250, "the heat takes all of the range"
    found = detect_in_plane(plane, BOARD)
    assert found is not None and found.how.startswith("flattened counts")
    flat = BOARD.points() @ rotation.T + translation
    assert off_px(found.points, INFRARED.project(flat[:, :2] / flat[:, 2:])) < 0.3


@pytest.mark.data
@pytest.mark.slow
def test_real_heated_boards_are_found_in_pgm_files(data_dir: Path, tmp_path: Path) -> None:
    files = sorted((data_dir / "calibration_boards" / "thermal16").glob("*.png"))
    if not files:
        pytest.skip("no 16-bit boards in the data folder")
    for file in files:
        assert cv2.imwrite(str(tmp_path / f"{file.stem}.pgm"), cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
    views = read_folder([tmp_path], THERMAL, "infrared")
    assert len(views.found) == len(files) == 8 and not views.without
    flat = THERMAL.points()[:, :2]
    for view in views.found:
        matrix, _ = cv2.findHomography(flat, view.detection.points)
        there = cv2.perspectiveTransform(flat[None], matrix)[0]
        assert np.hypot(*(there - view.detection.points).T).mean() < 1.0, view.name


@pytest.mark.parametrize("inverted", [False, True])
def test_symmetric_circles_are_found(inverted: bool) -> None:
    board = parse_board("symmetric-circles:7x5:30mm")
    assert str(board) == "symmetric-circles:7x5:0.03m" and board.points()[8] == pytest.approx((0.03, 0.03, 0))
    tilted = np.array([[2000.0, 120.0, 130.0], [-60.0, 1900.0, 140.0], [0.3, 0.1, 1.0]])
    fine = np.full((1440, 1920), 60, np.uint8)
    centres = cv2.perspectiveTransform(board.points()[None, :, :2].astype(np.float64), tilted)[0]
    for x, y in centres:
        cv2.circle(fine, (round(3 * x + 1), round(3 * y + 1)), 50, (190,), -1, cv2.LINE_AA)
    image = np.asarray(cv2.resize(fine, (640, 480), interpolation=cv2.INTER_AREA), np.uint8)
    found = detect(np.asarray(255 - image, np.uint8) if inverted else image, board)
    assert found is not None and off_px(found.points, centres) < 0.5
