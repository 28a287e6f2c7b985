"""Intrinsic calibration of one camera from views of a board: lens, error of each view, coverage, standard deviations.

Outlier views are rejected one by one, the worst first, and reported. Zhang, "A flexible new technique for
camera calibration", PAMI 2000, as implemented by OpenCV. Boards deviate from their nominal geometry; with many views
their points are estimated as well: K. Strobl and G. Hirzinger, "More accurate
pinhole camera calibration with imperfect planar target", ICCV workshops 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.board.point_detection import Detection
from fusepipe.calibration.board.target import Board
from fusepipe.calibration.lens import Lens, LensModel
from fusepipe.core.blas import one_blas_thread
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Size

MIN_VIEWS = 4
FULL_VIEWS = 10  # with fewer, only two radial coefficients are estimated
OUTLIER_RATIO = 2.5  # times the median view's error
OUTLIER_FLOOR_PX = 0.4
BOOTSTRAPS = 24
EQUAL_RMS = 1.1  # of the fuller lens model's error: two models that fit equally well
BOOTSTRAP_VIEWS = 8  # with fewer, a draw has too few different ones
RELEASE_VIEWS = 15  # that show the whole board, before its points are estimated
RELEASE_GAIN = 0.75  # of the mean squared error, each over its degrees of freedom: a smaller gain is not a board flaw
MAX_FLAW = 0.05  # in point spacings: a larger deviation is not a board flaw
LARGE_ERROR = 0.0016  # of the width: 1 pixel of 640
GRID = (8, 6)  # cells across and down of the coverage map

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class View:
    """A board detected in the image ``name``."""

    name: str
    detection: Detection


@dataclass(frozen=True, slots=True)
class CameraResult:
    """``errors_px`` is the root mean square reprojection error of each kept view, by name.

    ``deviations`` are the standard deviations of fx, fy, cx, cy (pixels) and the distortion: how they vary between
    resampled views, and fx to cy also between lens models; ``tilts_deg``
    is the angle of each board to the image plane. ``board_flaw_m`` is the root mean square
    deviation of the board's points from its nominal geometry; 0 where they were not estimated.
    """

    lens: Lens
    rms_px: float
    errors_px: dict[str, float]
    rejected: dict[str, float]
    deviations: tuple[float, ...]
    tilts_deg: dict[str, float]
    coverage: NDArray[np.int_]
    board_flaw_m: float = 0.0

    @property
    def covered(self) -> float:
        """The fraction of the image's cells that contain a board point, 0..1."""
        return float((self.coverage > 0).mean())

    def warnings(self) -> list[str]:
        """Warnings about the views, with what to do; empty for a good calibration."""
        warnings = []
        if self.covered < 0.6:
            warnings.append(
                f"the boards cover {self.covered:.0%} of the image: add views with the board in {self._empty()}"
            )
        if max(self.tilts_deg.values()) < 20:
            warnings.append(
                f"no board was tilted by more than {max(self.tilts_deg.values()):.0f}°: tilt it by 30° in several "
                "directions, or the focal length remains uncertain"
            )
        if self.rms_px > LARGE_ERROR * self.lens.size[0]:
            warnings.append(
                f"an error of {self.rms_px:.1f} px is large: check the number of inner corners of the "
                "board, and that it is flat and was held still"
                + ("" if self.lens.model == "fisheye" else ", and for a very wide lens select the fisheye model")
            )
        if self.deviations[0] > 0.01 * self.lens.fx:
            warnings.append(
                f"the focal length is uncertain by {self.deviations[0] / self.lens.fx:.1%}: add views "
                "that are closer and tilted"
            )
        return warnings

    def _empty(self) -> str:
        rows, columns = self.coverage.shape
        words = []
        for y, down in ((slice(0, rows // 2), "upper"), (slice(rows // 2, rows), "lower")):
            for x, across in ((slice(0, columns // 2), "left"), (slice(columns // 2, columns), "right")):
                if (self.coverage[y, x] > 0).mean() < 0.5:
                    words.append(f"the {down} {across} part")
        return ", ".join(words) or "the corners"


def coverage_map(views: Sequence[View], size: Size) -> NDArray[np.int_]:
    """Points in each cell of the image: 6x8 counts, row by row from the top."""
    columns, rows = GRID
    counts = np.zeros((rows, columns), np.int_)
    for view in views:
        x = np.clip((view.detection.points[:, 0] + 0.5) / size[0] * columns, 0, columns - 1).astype(int)
        y = np.clip((view.detection.points[:, 1] + 0.5) / size[1] * rows, 0, rows - 1).astype(int)
        np.add.at(counts, (y, x), 1)
    return counts


def calibrate_camera(views: Sequence[View], board: Board, size: Size, model: LensModel, camera: str) -> CameraResult:
    """The lens of a camera (``camera`` names it in messages). Raises :class:`UsageError` for unusable views."""
    kept, rejected = list(views), dict[str, float]()
    _require(kept, camera, "")
    while True:
        solved = _solve(kept, board, size, model, camera)
        errors = solved.errors
        worst = int(np.argmax(errors))
        limit = max(OUTLIER_FLOOR_PX * max(1.0, size[0] / 1000), OUTLIER_RATIO * float(np.median(errors)))
        if errors[worst] <= limit or len(kept) <= max(MIN_VIEWS, len(views) // 2):
            break
        rejected[kept.pop(worst).name] = round(float(errors[worst]), 3)
    flaw_m = 0.0
    if model == "pinhole" and (released := _released(kept, board, size, solved)) is not None:
        solved, flaw_m = released
        errors = solved.errors
    tilts = [float(np.degrees(np.arccos(min(1.0, abs(cv2.Rodrigues(r)[0][2, 2]))))) for r in solved.rotations]
    names = [view.name for view in kept]
    return CameraResult(
        lens=solved.lens,
        rms_px=round(solved.rms, 4),
        errors_px={n: round(float(e), 4) for n, e in zip(names, errors, strict=True)},
        rejected=rejected,
        deviations=_deviations(kept, board, size, model, camera, solved.deviations),
        tilts_deg={n: round(t, 1) for n, t in zip(names, tilts, strict=True)},
        coverage=coverage_map(kept, size),
        board_flaw_m=round(flaw_m, 6),
    )


@dataclass(frozen=True, slots=True)
class _Solved:
    lens: Lens
    rms: float
    errors: Array
    rotations: list[Array]
    deviations: tuple[float, ...]


@one_blas_thread
def _solve(
    views: Sequence[View], board: Board, size: Size, model: LensModel, camera: str, few: bool | None = None
) -> _Solved:
    """``few``: only two radial coefficients; by default, where there are fewer than ``FULL_VIEWS``."""
    points = board.points()
    objects = [points[v.detection.ids].reshape(-1, 1, 3) for v in views]
    images = [v.detection.points.reshape(-1, 1, 2) for v in views]
    try:
        if model == "fisheye":
            return _solve_fisheye(objects, images, size)
        # CALIB_ZERO_TANGENT_DIST, CALIB_FIX_K3: with few views they would fit the noise
        simple = len(views) < FULL_VIEWS if few is None else few
        flags = cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K3 if simple else 0
        rms, matrix, distortion, rotations, _, deviations, _, errors = cv2.calibrateCameraExtended(
            objects, images, size, None, None, flags=flags
        )
    except cv2.error as error:
        raise UsageError(
            f"the {camera} camera cannot be solved from these {len(views)} views ({error.err}): tilt the board more, "
            "and fill the image with it"
        ) from error
    return _pinhole(size, rms, matrix, distortion, rotations, deviations, errors)


def _pinhole(
    size: Size, rms: float, k: Array, distortion: Array, rotations: Sequence[Array], deviations: Array, errors: Array
) -> _Solved:
    """Of OpenCV's numbers."""
    numbers = (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))
    lens = Lens(size, *numbers, tuple(float(d) for d in distortion.ravel()[:5]))
    spread = tuple(round(float(d), 6) for d in deviations.ravel()[:9])
    return _Solved(lens, float(rms), np.asarray(errors, np.float64).ravel(), list(rotations), spread)


@one_blas_thread
def _released(views: Sequence[View], board: Board, size: Size, solved: _Solved) -> tuple[_Solved, float] | None:
    """The camera and the board flaw in metres, with the board's points estimated; ``None`` without a clear gain.

    It needs many views that all show every point, and an error clearly smaller than the additional parameters explain.
    """
    points, count = board.points(), board.count
    if len(views) < RELEASE_VIEWS or any(len(v.detection.ids) != count for v in views):
        return None
    # from scratch: with CALIB_USE_INTRINSIC_GUESS OpenCV 5 counts its own parameters wrong here, and stops
    rms, matrix, distortion, rotations, _, moved, deviations, _, _, errors = cv2.calibrateCameraROExtended(
        [points.reshape(-1, 1, 3)] * len(views),
        [v.detection.points.reshape(-1, 1, 2) for v in views],
        size,
        board.shape[0] - 1,  # stays where it is, as do the first point and the last one's height
        None,
        None,
    )
    numbers, freedoms = 2 * count * len(views), 9 + 6 * len(views)
    gain = (rms**2 / (numbers - freedoms - 3 * count + 7)) / (solved.rms**2 / (numbers - freedoms))
    off = np.linalg.norm(np.reshape(moved, (-1, 3)) - points, axis=1)
    if gain > RELEASE_GAIN or off.max() > MAX_FLAW * board.spacing_m:
        return None
    return _pinhole(size, rms, matrix, distortion, rotations, deviations, errors), float(np.sqrt((off**2).mean()))


def _solve_fisheye(points: Sequence[NDArray[Any]], seen: Sequence[NDArray[Any]], size: Size) -> _Solved:
    matrix, distortion = np.eye(3), np.zeros(4)
    names = "CALIB_RECOMPUTE_EXTRINSIC", "CALIB_FIX_SKEW"  # in OpenCV 4 they belong to cv2.fisheye
    flags = sum(getattr(cv2.fisheye, name, None) or getattr(cv2, name) for name in names)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 100, 1e-7)
    # OpenCV 5 takes points in a row only here, not in a column (opencv/opencv issue 29692)
    objects = [np.asarray(o, np.float64).reshape(1, -1, 3) for o in points]
    images = [np.asarray(i, np.float64).reshape(1, -1, 2) for i in seen]
    rms, matrix, distortion, rotations, shifts = cv2.fisheye.calibrate(
        objects, images, size, matrix, distortion, flags=flags, criteria=criteria
    )
    lens = Lens(
        size,
        float(matrix[0, 0]),
        float(matrix[1, 1]),
        float(matrix[0, 2]),
        float(matrix[1, 2]),
        tuple(float(d) for d in np.ravel(distortion)),
        "fisheye",
    )
    errors = []
    for obj, image, r, t in zip(objects, images, rotations, shifts, strict=True):
        there, _ = cv2.fisheye.projectPoints(obj.reshape(-1, 1, 3), r, t, matrix, distortion)
        errors.append(np.sqrt(((there.reshape(-1, 2) - image.reshape(-1, 2)) ** 2).sum(axis=1).mean()))
    return _Solved(lens, float(rms), np.array(errors), list(rotations), ())


def _deviations(
    views: Sequence[View], board: Board, size: Size, model: LensModel, camera: str, formal: tuple[float, ...]
) -> tuple[float, ...]:
    """Standard deviations that hold between sets of views, not for the noise of the corners only.

    The formal ones assume independent errors of the corners and a perfect model: they come out several times too small.
    """
    if model == "fisheye" or len(views) < BOOTSTRAP_VIEWS:
        found = np.array(_jackknife(views, board, size, model, camera))
    else:
        found = _bootstrap(views, board, size, model, camera)
    if model == "pinhole" and len(views) >= FULL_VIEWS:
        full, simple = (_solve(views, board, size, model, camera, few) for few in (False, True))
        if simple.rms <= EQUAL_RMS * full.rms:  # the views do not tell which model is right
            found[:4] = np.hypot(found[:4], np.abs(_values(full) - _values(simple))[:4])
    if formal:
        found = np.maximum(found, np.array(formal[: len(found)]))
    return tuple(round(float(value), 6) for value in found)


def _values(solved: _Solved) -> Array:
    lens = solved.lens
    return np.array([lens.fx, lens.fy, lens.cx, lens.cy, *lens.distortion])


def _bootstrap(views: Sequence[View], board: Board, size: Size, model: LensModel, camera: str) -> Array:
    """Standard deviations over sets of views drawn with replacement (B. Efron, "Bootstrap methods", 1979)."""
    random = np.random.default_rng(0)
    values = []
    for _ in range(BOOTSTRAPS):
        drawn = random.integers(0, len(views), len(views))
        if len(set(drawn.tolist())) >= MIN_VIEWS:
            few = len(views) < FULL_VIEWS
            values.append(_values(_solve([views[n] for n in drawn], board, size, model, camera, few)))
    # the middle of the distribution: a draw of nearly parallel boards can be far off
    low, high = np.quantile(np.array(values), (0.16, 0.84), axis=0)
    return np.asarray((high - low) / 2, np.float64)


def _jackknife(views: Sequence[View], board: Board, size: Size, model: LensModel, camera: str) -> tuple[float, ...]:
    """Standard deviations by the jackknife over groups of views (B. Efron, 1982)."""
    groups = min(len(views), 10)
    few = len(views) < FULL_VIEWS
    values = [
        _values(_solve([v for i, v in enumerate(views) if i % groups != group], board, size, model, camera, few))
        for group in range(groups)
    ]
    spread = np.sqrt((groups - 1) * np.var(np.array(values), axis=0))
    return tuple(round(float(s), 6) for s in spread)


def _require(views: Sequence[View], camera: str, note: str) -> None:
    if len(views) < MIN_VIEWS:
        raise UsageError(
            f"the board was found in {len(views)} {camera} {'view' if len(views) == 1 else 'views'}; {MIN_VIEWS} are "
            f"the minimum and 15 to 30 are recommended: the whole board in the image, tilted, in all parts of it{note}"
        )
