"""AprilGrid boards are found, also in part, whichever corner of a tag is the first and wherever counting starts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fusepipe.calibration.board.point_detection import detect
from fusepipe.calibration.board.target import Board, parse_board
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8

BOARD = parse_board("aprilgrid:4x3:52mm:40mm")
CELL_PX = 5  # a tag is 10 cells of 4 mm, with its border
PX_PER_M = CELL_PX / 0.004
MARGIN_PX = 60
PLANE = np.array([[0.9, 0.12, 20.0], [-0.08, 0.95, 40.0], [1e-4, 2e-4, 1.0]])


def printed(board: Board, *, up: bool = True, turns: int = 0) -> Luma8:
    """The board seen squarely: number 0 at the bottom left with ``up``; tags turned by quarters."""
    tags = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
    pitch, side = round(board.spacing_m * PX_PER_M), round(board.marker_m * PX_PER_M)
    gap = pitch - side
    image = np.full((board.rows * pitch + 2 * MARGIN_PX, board.columns * pitch + 2 * MARGIN_PX), 255, np.uint8)
    for number in range(board.columns * board.rows):
        row, column = divmod(number, board.columns)
        y, x = (board.rows - 1 - row if up else row) * pitch + MARGIN_PX, column * pitch + MARGIN_PX
        image[y : y + side, x : x + side] = np.rot90(tags.generateImageMarker(number, side, borderBits=2), turns)
    for row, column in np.ndindex(board.rows + 1, board.columns + 1):  # the black squares in the gaps
        y, x = row * pitch + MARGIN_PX - gap, column * pitch + MARGIN_PX - gap
        image[y : y + gap, x : x + gap] = 0
    return image


def expected(board: Board) -> NDArray[np.float64]:
    flat = board.points()[:, :2].astype(np.float64) * PX_PER_M + MARGIN_PX - 0.5
    return np.asarray(cv2.perspectiveTransform(flat[None], PLANE)[0], np.float64)


def seen(image: Luma8) -> Luma8:
    return np.asarray(cv2.warpPerspective(image, PLANE, (420, 340), flags=cv2.INTER_AREA, borderValue=255), np.uint8)


def test_the_points_are_the_corners_of_the_tags() -> None:
    points = BOARD.points()
    assert BOARD.count == 48 and BOARD.shape == (8, 6) and str(BOARD) == "aprilgrid:4x3:0.052m:0.04m"
    assert points[:3, 0] == pytest.approx((0, 0.04, 0.052)) and points[8::8, 1][:2] == pytest.approx((0.04, 0.052))


@pytest.mark.parametrize(("up", "turns"), [(True, 0), (True, 2), (False, 1)])
def test_every_point_is_found(up: bool, turns: int) -> None:
    image = seen(printed(BOARD, up=up, turns=turns))
    found = detect(image, BOARD)
    assert found is not None and len(found.ids) >= 44
    assert np.hypot(*(found.points - expected(BOARD)[found.ids]).T).max() < 0.5


def test_a_board_that_is_partly_hidden_is_found_by_the_rest() -> None:
    image = seen(printed(BOARD))
    image[:, 230:] = 128
    found = detect(image, BOARD)
    assert found is not None and 12 <= len(found.ids) <= 24
    assert np.hypot(*(found.points - expected(BOARD)[found.ids]).T).max() < 0.5


def test_a_mirrored_board_and_other_boards_are_not_found() -> None:
    assert detect(np.ascontiguousarray(seen(printed(BOARD))[:, ::-1]), BOARD) is None
    assert detect(seen(printed(BOARD)), parse_board("aprilgrid:3x4:52mm:40mm")) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("aprilgrid:4x3:40mm:52mm", "a marker of 0.052 m does not fit into a grid of one every 0.04 m"),
        ("aprilgrid:1x2:52mm:40mm", "an aprilgrid of 1x2 tags: 4 to 587 are possible"),
        ("aprilgrid:4x3:52mm", "is not a aprilgrid board: use aprilgrid:6x6"),
    ],
)
def test_impossible_boards_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_board(text)
