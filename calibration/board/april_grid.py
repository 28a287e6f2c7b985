"""AprilGrid boards, as Kalibr prints them: a grid of AprilTags of the family 36h11 with borders of two cells.

J. Maye, P. Furgale and R. Siegwart, "Self-supervised calibration for robotic systems", 2013 (Kalibr). Tags are numbered
from the bottom left; programs differ in which corner of a tag is its first one, and some count from the top. So all of
these are tried: the wrong ones do not fit a plane.
"""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.board.target import Board
from fusepipe.core.frames import Luma8

MIN_SEEN = 3  # tags: two in a row tell little about the plane
MAX_OFF = 0.2  # of a tag's side in the image, of the worst corner

Points = NDArray[np.float32]
Numbers = NDArray[np.intp]


def april_points(luma: Luma8, board: Board) -> tuple[Points, Numbers] | None:
    """(Nx2 pixels, N numbers of the board's points) of the tags that are seen whole in an HxW uint8 image.

    ``None`` with fewer than ``MIN_SEEN``, or where they do not lie as on the board.
    """
    settings = cv2.aruco.DetectorParameters()
    settings.markerBorderBits = 2
    tags = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
    corners, found, _ = cv2.aruco.ArucoDetector(tags, settings).detectMarkers(luma)
    if found is None:
        return None
    numbers = found.ravel()
    own = (numbers < board.columns * board.rows) & (np.bincount(numbers, minlength=numbers.max() + 1)[numbers] == 1)
    if own.sum() < MIN_SEEN:
        return None
    seen = np.concatenate(corners)[own].reshape(-1, 4, 2)  # clockwise, from what the dictionary calls the first
    tried = [(_numbers(numbers[own], board, turn, up), seen) for turn, up in product(range(4), (True, False))]
    off, ids = min(((_off(board, ids, image.reshape(-1, 2)), ids) for ids, image in tried), key=lambda one: one[0])
    side_px = float(np.hypot(*(seen[:, 1] - seen[:, 0]).T).mean())
    return (seen.reshape(-1, 2).astype(np.float32), ids) if off <= MAX_OFF * side_px else None


def _numbers(tags: NDArray[np.int32], board: Board, turn: int, up: bool) -> Numbers:
    """4N: the board's points of the corners of N tags, clockwise from corner ``turn``; ``up``: rows count upwards."""
    row, column = np.divmod(tags, board.columns)
    if up:
        row = board.rows - 1 - row
    clockwise = np.roll(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]), turn, axis=0)
    x = 2 * column[:, None] + clockwise[:, 0]
    y = 2 * row[:, None] + clockwise[:, 1]
    return np.asarray(y * board.shape[0] + x, np.intp).ravel()


def _off(board: Board, ids: Numbers, image: NDArray[np.float32]) -> float:
    """By how many pixels the worst point is off a plane; infinite for a board that is seen mirrored."""
    flat = board.points()[ids, :2]
    matrix, _ = cv2.findHomography(flat, image)
    if matrix is None:
        return float("inf")
    there = cv2.perspectiveTransform(flat.reshape(-1, 1, 2), matrix).reshape(-1, 2)
    return float(np.hypot(*(there - image).T).max()) if np.linalg.det(matrix[:2, :2]) > 0 else float("inf")
