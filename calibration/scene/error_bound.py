"""How far a map is off at most, in the centre and at the corners of the common view, from what its blocks say.

A homography is fitted to the displacements that the blocks still have, and again without each ninth of the common view
(delete-a-group jackknife: B. Efron and C. Stein, "The jackknife estimate of variance", 1981). How much its predictions
change is how well the blocks determine the map; it grows where a part has no blocks, and where parts contradict each
other because of parallax or a lens. Two lines, calibrated on pairs whose true map is known, turn it into a bound that
nine in ten errors stay below (docs/measurements/registration.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.scene.local_matches import MAX_INFORMATION, SHARPNESS, Matches, homography_jacobian

MIN_BLOCKS = 12
GRID = 3
WINDOW_PX = 1.5  # around the map: displacements beyond it belong to blocks that match something else
RIDGE = 1e-3
# of the width, and per displacement of the jackknife
CENTRE = (0.0075, 1.0)
CORNERS = (0.0165, 3.0)

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """Bounds of a map's error in visible pixels that nine in ten maps keep.

    ``centre_px`` is that in the centre of the common view, ``corners_px`` that at the worst of its corners.
    """

    centre_px: float
    corners_px: float

    @property
    def text(self) -> str:
        return (
            f"at most {self.centre_px:.1f} px in the centre and {self.corners_px:.1f} px at the corners (9 of 10 cases)"
        )


def error_bound(matches: Matches, seen: NDArray[np.float32], visible_width_px: int) -> ErrorBound | None:
    """Of the map at whose places ``matches`` are; ``seen`` (HxW) is 1 where the infrared camera sees.

    ``None`` with too few blocks.
    """
    if len(matches.centres) < MIN_BLOCKS:
        return None
    places = view_points(seen)
    whole, spread = _jackknife(matches, places)
    scale = visible_width_px / matches.size[0]
    bounds = [
        moved + part * matches.size[0] + slope * known
        for moved, known, (part, slope) in zip(whole, spread, (CENTRE, *[CORNERS] * 4), strict=True)
    ]
    return ErrorBound(round(float(bounds[0] * scale), 2), round(float(max(bounds[1:]) * scale), 2))


def view_points(seen: NDArray[np.float32]) -> Array:
    """5x2 (x, y): the centre of what the infrared camera sees, and its outermost points towards the image's corners."""
    height, width = seen.shape
    y, x = np.nonzero(seen > 0)
    centre = np.array([x.mean(), y.mean()]) if len(x) else np.array([width / 2, height / 2])
    points = [centre]
    along = np.linspace(1.0, 0.0, 101)[:, None]
    for corner in ((0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)):
        line = centre + along * (np.array(corner) - centre)
        column, row = np.rint(line).astype(int).T
        inside = np.flatnonzero(seen[row, column] > 0)
        points.append(line[inside[0]] if len(inside) else centre)
    return np.array(points)


def _jackknife(matches: Matches, places: Array) -> tuple[Array, Array]:
    """For each place: by how much all blocks would move it, and how far that changes without a part; pixels."""
    mean, information = _displacements(matches)
    jacobian = homography_jacobian(matches.centres, matches.size)
    there = homography_jacobian(places, matches.size)

    def moved(kept: NDArray[np.bool_]) -> Array:
        weighted = jacobian[kept].transpose(0, 2, 1) @ information[kept]
        normal = (weighted @ jacobian[kept]).sum(axis=0) + RIDGE * np.eye(8)
        return np.asarray(there @ np.linalg.solve(normal, (weighted @ mean[kept][:, :, None])[..., 0].sum(axis=0)))

    whole = moved(np.ones(len(mean), np.bool_))
    part = view_parts(matches.centres)
    groups = np.unique(part)
    if len(groups) < 2:
        return np.hypot(*whole.T), np.full(len(places), np.inf)
    changes = np.stack([moved(part != group) - whole for group in groups])
    factor = (len(groups) - 1) / len(groups)
    return np.hypot(*whole.T), np.sqrt(factor * (changes**2).sum(axis=(0, 2)))


def view_parts(centres: Array) -> NDArray[np.int64]:
    """N: which of ``GRID`` x ``GRID`` parts, each column and row with as many blocks, a block belongs to."""
    steps = np.arange(1, GRID) / GRID
    column, row = (np.searchsorted(np.quantile(axis, steps), axis) for axis in centres.T)
    return np.asarray(row * GRID + column, np.int64)


def _displacements(matches: Matches) -> tuple[Array, Array]:
    """Each block's displacement (Nx2) within a window around the map, and its information (Nx2x2, per px squared)."""
    r = matches.radius_px
    y, x = (g.ravel().astype(np.float64) for g in np.mgrid[-r : r + 1, -r : r + 1])
    window = np.exp(-(x * x + y * y) / (2 * WINDOW_PX * WINDOW_PX))
    weight = np.exp(2 * SHARPNESS * matches.surfaces.reshape(len(matches.surfaces), -1).astype(np.float64)) * window
    weight /= weight.sum(axis=1, keepdims=True)
    mean = np.stack([weight @ x, weight @ y], axis=1)
    off_x, off_y = x - mean[:, :1], y - mean[:, 1:]
    xx, yy, xy = ((weight * p).sum(axis=1) for p in (off_x * off_x, off_y * off_y, off_x * off_y))
    spread = np.stack([np.stack([xx + 0.02, xy], 1), np.stack([xy, yy + 0.02], 1)], axis=1)
    values, vectors = np.linalg.eigh(np.linalg.inv(spread))
    # what the window itself says is taken off
    values = np.clip(values - 1.0 / (WINDOW_PX * WINDOW_PX), 0.0, MAX_INFORMATION)
    return mean, (vectors * values[:, None, :]) @ vectors.transpose(0, 2, 1)
