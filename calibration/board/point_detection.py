"""Detects a board's points in an image, also where it is faint, blurred or inverted as in thermal images.

The detector is tried on several versions of the image until it succeeds: scales, contrast (stretched, equalised
locally, smoothed, flattened) and both polarities. Points are refined at full resolution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.board.april_grid import april_points
from fusepipe.calibration.board.target import MARKED, Board
from fusepipe.calibration.gradient_field import to_luma8
from fusepipe.core.frames import Luma8, Plane

WORKING_WIDTH_PX = 1000  # larger images are searched at this width
SCALES = (1.0, 0.5, 0.7, 0.35)
COARSE_PART, FINE_PART = 16, 64  # of the width: what flattening takes for local
REFINE_REACH = 0.6  # half of the refinement window, in corner spacings
MAX_REACH_PX = 20  # blur does not reach further; sharp images are best with less
REFINE_CHANGE = 0.3  # in corner spacings: a refinement that moves a point further is rejected
OTHER_AGREE = 2  # versions of an image in which a board of another size is found alike
OTHER_MIN = 4  # corners along its shorter side; 3 in a row are found in most images

Points = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Detection:
    """``points`` Nx2 float32 (x, y) in pixels of the image, centre of the first pixel (0, 0).

    ``ids`` are the points' numbers in :meth:`Board.points`: all of them but for ChArUco, which may see a
    part. ``how`` names the version of the image in which it was found.
    """

    points: Points
    ids: NDArray[np.intp]
    how: str


def detect_in_plane(plane: Plane, board: Board) -> Detection | None:
    """The board in the luma of a frame, or ``None``. 16-bit counts are flattened before they become 8 bit.

    A board that is heated in the middle has less contrast between its squares than from the middle to the border: in
    8 bit, too few levels are left.
    """
    if plane.pixels.dtype == np.uint16:
        flat = _flattened(plane.pixels.astype(np.float32), FINE_PART)
        found = _first(_both_polarities("flattened counts", flat, (1.0, 0.5)), flat, board)
        if found is not None:
            return found
    return detect(to_luma8(plane), board)


def detect(luma: Luma8, board: Board) -> Detection | None:
    """The board in an HxW uint8 image, or ``None``."""
    return _first(_versions(luma), luma, board)


def _first(versions: Iterator[tuple[str, float, Luma8]], luma: Luma8, board: Board) -> Detection | None:
    """The board in the first version that shows it; corners are refined in ``luma``."""
    find = {
        "checkerboard": _checkerboard,
        "circles": _circles,
        "symmetric-circles": _circles,
        "charuco": _charuco,
        "aprilgrid": april_points,
    }[board.kind]
    for how, scale, version in versions:
        found = find(version, board)
        if found is None:
            continue
        points, ids = found
        points = (points + 0.5) / scale - 0.5
        if not _plausible(points, ids, board, luma.shape):
            continue
        if board.kind in ("checkerboard", *MARKED):
            points = _refined(luma, points)
        return Detection(points.astype(np.float32), ids, how)
    return None


def _both_polarities(name: str, luma: Luma8, parts: Sequence[float]) -> Iterator[tuple[str, float, Luma8]]:
    """(name, scale, image) at each part of the working width."""
    for part in parts:
        scale = part * min(1.0, WORKING_WIDTH_PX / luma.shape[1])
        size = round(luma.shape[1] * scale), round(luma.shape[0] * scale)
        if min(size) < 60:
            continue
        small = luma if scale == 1 else np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)
        yield f"{name} at {part:g}", scale, small
        yield f"{name} at {part:g}, inverted", scale, np.asarray(255 - small, np.uint8)


def _versions(luma: Luma8) -> Iterator[tuple[str, float, Luma8]]:
    """(name, scale, image), the most likely first."""
    base = min(1.0, WORKING_WIDTH_PX / luma.shape[1])
    low, high = np.percentile(luma, (1, 99))
    stretched = np.clip((luma.astype(np.float32) - low) * (255 / max(high - low, 1.0)), 0, 255).astype(np.uint8)
    contrasts: tuple[tuple[str, Callable[[Luma8], Luma8]], ...] = (
        ("plain", lambda x: x),
        ("equalised", _equalised),
        ("smoothed", lambda x: np.asarray(cv2.GaussianBlur(x, (0, 0), 1.5), np.uint8)),
        ("flattened", lambda x: _flattened(x.astype(np.float32))),
    )
    for part, (name, change) in product(SCALES, contrasts):
        scale = base * part
        size = round(luma.shape[1] * scale), round(luma.shape[0] * scale)
        if min(size) < 60:
            continue
        small = stretched if scale == 1 else np.asarray(cv2.resize(stretched, size, interpolation=cv2.INTER_AREA))
        version = change(np.asarray(small, np.uint8))
        yield f"{name} at {part:g}", scale, version
        yield f"{name} at {part:g}, inverted", scale, np.asarray(255 - version, np.uint8)


def other_checkerboard(luma: Luma8, board: Board) -> tuple[int, int] | None:
    """(columns, rows) of inner corners of a checkerboard of another size than ``board``, the larger number first.

    Quick, and a guess: the size on which most versions of the image agree, at least two; a board that is seen in part
    gives a smaller one. ``None`` where there is none, or ``board`` itself is found.
    """
    flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_LARGER
    sizes: Counter[tuple[int, int]] = Counter()
    for how, _, version in _versions(luma):
        if not how.endswith((" at 1", " at 0.5")):
            continue
        done, _, meta = cv2.findChessboardCornersSBWithMeta(version, (3, 3), flags)
        if done and min(meta.shape) >= OTHER_MIN and meta.shape[0] != meta.shape[1]:
            sizes[max(meta.shape), min(meta.shape)] += 1
    if not sizes:
        return None
    size, count = max(sizes.items(), key=lambda item: (item[1], item[0]))
    return size if count >= OTHER_AGREE and size not in (board.shape, board.shape[::-1]) else None


def _equalised(luma: Luma8) -> Luma8:
    return np.asarray(cv2.createCLAHE(3.0, (8, 8)).apply(luma), np.uint8)


def _flattened(values: NDArray[np.float32], part: int = COARSE_PART) -> Luma8:
    """Local mean and contrast normalised, for a board that is warm on one side; ``part`` of the width is local."""
    pixels = cv2.GaussianBlur(values, (0, 0), 1.2)
    sigma = values.shape[1] / part
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
    if board.kind == "circles":
        flags = cv2.CALIB_CB_ASYMMETRIC_GRID | cv2.CALIB_CB_CLUSTERING
    else:
        flags = cv2.CALIB_CB_SYMMETRIC_GRID
    done, centres = cv2.findCirclesGrid(luma, board.shape, flags=flags, blobDetector=blobs)
    return (centres.reshape(-1, 2), np.arange(board.count)) if done else None


def _charuco(luma: Luma8, board: Board) -> tuple[Points, NDArray[np.intp]] | None:
    detector = cv2.aruco.CharucoDetector(charuco_board(board))
    corners, ids, _, _ = detector.detectBoard(luma)
    if ids is None or len(ids) < 8:
        return None
    return corners.reshape(-1, 2), ids.ravel().astype(np.intp)


def charuco_board(board: Board) -> cv2.aruco.CharucoBoard:
    """OpenCV's object for the same board; its ``generateImage`` draws it."""
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_100)
    return cv2.aruco.CharucoBoard((board.columns, board.rows), board.spacing_m, board.marker_m, dictionary)


def _plausible(points: Points, ids: NDArray[np.intp], board: Board, shape: tuple[int, ...]) -> bool:
    """Whether the points are inside the image and fit a homography of the board to a quarter of their spacing."""
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
    """The smallest distance between two points, in pixels."""
    off = points[:, None, :] - points[None, :, :]
    distance = np.hypot(off[..., 0], off[..., 1])
    return float(distance[~np.eye(len(points), dtype=bool)].min())


def _refined(luma: Luma8, points: Points) -> Points:
    """Corners refined to subpixel accuracy in the full image; those that would move too far keep their position.

    The window is wide: in thermal images bright squares bloom and their corners merge, but the edges farther out still
    point at the corner, from both sides.
    """
    spacing = spacing_px(points)
    reach = max(2, round(min(REFINE_REACH * spacing, MAX_REACH_PX)))
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 40, 0.005)
    smooth = cv2.GaussianBlur(luma, (0, 0), 1.0)
    start = points.astype(np.float32)
    better = cv2.cornerSubPix(smooth, start.reshape(-1, 1, 2).copy(), (reach, reach), (-1, -1), criteria).reshape(-1, 2)
    kept = np.hypot(*(better - start).T) <= max(1.0, REFINE_CHANGE * spacing)
    return np.where(kept[:, None], better, start).astype(np.float32)
