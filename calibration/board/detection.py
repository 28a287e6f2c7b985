"""Finds a board's points in an image: faint and blurred thermal ones, inverted ones, large visible ones.

Detectors meet every image in several guises until one of them succeeds: sizes, contrast (stretched,
equalised locally, smoothed, flattened) and both polarities. Points are refined at full resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.board.target import Board
from fusepipe.core.frames import Luma8

WORKING_WIDTH_PX = 1000  # larger images are searched at this width
SCALES = (1.0, 0.5, 0.7, 0.35)
REFINE_REACH = 0.6  # half of the window of a corner's refinement, in distances of two corners
MAX_REACH_PX = 20  # no lens and no sensor smears an edge that far; sharp images are best with less
REFINE_CHANGE = 0.3  # in distances of two corners: a refinement that moves a point further is not believed

Points = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Detection:
    """``points`` Nx2 float32 (x, y) in pixels of the image, centre of the first pixel (0, 0).

    ``ids`` are the points' numbers in :meth:`Board.points`: all of them but for ChArUco, which may see a
    part. ``how`` says which guise of the image it was found in.
    """

    points: Points
    ids: NDArray[np.intp]
    how: str


def detect(luma: Luma8, board: Board) -> Detection | None:
    """The board in an HxW uint8 image, or ``None``."""
    find = {"checkerboard": _checkerboard, "circles": _circles, "charuco": _charuco}[board.kind]
    for how, scale, guise in _guises(luma):
        found = find(guise, board)
        if found is None:
            continue
        points, ids = found
        points = (points + 0.5) / scale - 0.5
        if not _plausible(points, ids, board, luma.shape):
            continue
        if board.kind != "circles":
            points = _refined(luma, points)
        return Detection(points.astype(np.float32), ids, how)
    return None


def _guises(luma: Luma8) -> Iterator[tuple[str, float, Luma8]]:
    """(name, scale, image), the likeliest first."""
    base = min(1.0, WORKING_WIDTH_PX / luma.shape[1])
    low, high = np.percentile(luma, (1, 99))
    stretched = np.clip((luma.astype(np.float32) - low) * (255 / max(high - low, 1.0)), 0, 255).astype(np.uint8)
    ways: tuple[tuple[str, Callable[[Luma8], Luma8]], ...] = (
        ("plain", lambda x: x),
        ("equalised", _equalised),
        ("smoothed", lambda x: np.asarray(cv2.GaussianBlur(x, (0, 0), 1.5), np.uint8)),
        ("flattened", _flattened),
    )
    for part, (name, change) in product(SCALES, ways):
        scale = base * part
        size = round(luma.shape[1] * scale), round(luma.shape[0] * scale)
        if min(size) < 60:
            continue
        small = stretched if scale == 1 else np.asarray(cv2.resize(stretched, size, interpolation=cv2.INTER_AREA))
        guise = change(np.asarray(small, np.uint8))
        yield f"{name} at {part:g}", scale, guise
        yield f"{name} at {part:g}, inverted", scale, np.asarray(255 - guise, np.uint8)


def _equalised(luma: Luma8) -> Luma8:
    return np.asarray(cv2.createCLAHE(3.0, (8, 8)).apply(luma), np.uint8)


def _flattened(luma: Luma8) -> Luma8:
    """Every neighbourhood brought to one mean and one contrast: a board that is warm on one side."""
    pixels = cv2.GaussianBlur(luma, (0, 0), 1.2).astype(np.float32)
    sigma = luma.shape[1] / 16
    detail = pixels - cv2.GaussianBlur(pixels, (0, 0), sigma)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), sigma))
    flat = 128 + 60 * detail / (contrast + 0.02 * contrast.max() + 1e-3)
    return np.asarray(np.clip(flat, 0, 255), np.uint8)


def _checkerboard(luma: Luma8, board: Board) -> tuple[Points, NDArray[np.intp]] | None:
    flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY
    done, corners = cv2.findChessboardCornersSB(luma, board.shape, flags=flags)
    return (corners.reshape(-1, 2), np.arange(board.count)) if done else None


def _circles(luma: Luma8, board: Board) -> tuple[Points, NDArray[np.intp]] | None:
    settings = cv2.SimpleBlobDetector.Params()
    settings.minArea, settings.maxArea = 12.0, luma.size / 60
    settings.filterByConvexity = settings.filterByInertia = False
    settings.minThreshold, settings.maxThreshold, settings.thresholdStep = 20.0, 230.0, 10.0
    blobs = cv2.SimpleBlobDetector.create(settings)
    flags = cv2.CALIB_CB_ASYMMETRIC_GRID | cv2.CALIB_CB_CLUSTERING
    done, centres = cv2.findCirclesGrid(luma, board.shape, flags=flags, blobDetector=blobs)
    return (centres.reshape(-1, 2), np.arange(board.count)) if done else None


def _charuco(luma: Luma8, board: Board) -> tuple[Points, NDArray[np.intp]] | None:
    detector = cv2.aruco.CharucoDetector(charuco_board(board))
    corners, ids, _, _ = detector.detectBoard(luma)
    if ids is None or len(ids) < 8:
        return None
    return corners.reshape(-1, 2), ids.ravel().astype(np.intp)


def charuco_board(board: Board) -> cv2.aruco.CharucoBoard:
    """OpenCV's board of the same print; its ``generateImage`` draws it."""
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_100)
    return cv2.aruco.CharucoBoard((board.columns, board.rows), board.spacing_m, board.marker_m, dictionary)


def _plausible(points: Points, ids: NDArray[np.intp], board: Board, shape: tuple[int, ...]) -> bool:
    """Whether the points are inside the image and lie as those of a plane do, to a quarter of their distance."""
    height, width = shape
    if not ((points >= -0.5).all() and (points[:, 0] <= width).all() and (points[:, 1] <= height).all()):
        return False
    flat = board.points()[ids, :2]
    matrix, _ = cv2.findHomography(flat, points)
    if matrix is None:
        return False
    there = cv2.perspectiveTransform(flat.reshape(-1, 1, 2), matrix).reshape(-1, 2)
    return bool(np.abs(there - points).max() < 0.25 * spacing_px(points) + 2)


def spacing_px(points: Points) -> float:
    """The smallest distance of two points, in pixels: how large the board is in the image."""
    off = points[:, None, :] - points[None, :, :]
    distance = np.hypot(off[..., 0], off[..., 1])
    return float(distance[~np.eye(len(points), dtype=bool)].min())


def _refined(luma: Luma8, points: Points) -> Points:
    """Corners to a fraction of a pixel of the full image; those that would run away stay.

    The window is wide: in thermal images bright squares bloom and their corners melt together, but the edges
    farther out still point at the corner, from both sides.
    """
    spacing = spacing_px(points)
    reach = max(2, round(min(REFINE_REACH * spacing, MAX_REACH_PX)))
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 40, 0.005)
    smooth = cv2.GaussianBlur(luma, (0, 0), 1.0)
    start = points.astype(np.float32)
    better = cv2.cornerSubPix(smooth, start.reshape(-1, 1, 2).copy(), (reach, reach), (-1, -1), criteria).reshape(-1, 2)
    kept = np.hypot(*(better - start).T) <= max(1.0, REFINE_CHANGE * spacing)
    return np.where(kept[:, None], better, start).astype(np.float32)
