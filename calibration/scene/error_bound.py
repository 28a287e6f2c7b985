"""How far a map is off at most, in the centre and at the corners of the common view, from what its blocks say.

Two maps are fitted to disjoint halves of the blocks, several times over: how far they are apart at a place is how well
the blocks determine the map there (split-half reliability: C. Spearman, "Correlation calculated from faulty data",
1910). It grows where the map is extrapolated, and where parts contradict each other because of parallax or a lens. To
it comes how far all blocks together would still move the place; at the corners the share of the blocks nearby that
agree tells more. A quantile regression on pairs whose true map is known (docs/measurements/registration.md) turns them
into a bound that nine in ten errors stay below.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.scene.local_matches import Matches, Model, fit

MIN_BLOCKS = 12
GRID = 3
SPLITS = 6
HALF_MODEL: Model = "affine"  # a homography of half of the blocks says more of its own freedom than of the map
WINDOW_PX = 3.0  # around the map: displacements beyond it belong to blocks that match something else
NEARBY = 0.15  # of the width: how far blocks count at a place

# Errors are in pixels of an image OF_PX wide: log(error + FLOOR_PX) = base + slope * log(off + FLOOR_PX)
# - agreement * share of the blocks nearby that agree
OF_PX, FLOOR_PX = 640, 0.3

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Of the quantile regression (R. Koenker and G. Bassett, "Regression quantiles", 1978) at 0.9."""

    base: float
    slope: float
    agreement: float

    def bound(self, off: Array, share: Array) -> Array:
        """N bounds from what :func:`_off` gives, both in parts of the width, and the share of blocks that agrees."""
        known = np.log(off * OF_PX + FLOOR_PX)
        return np.asarray((np.exp(self.base + self.slope * known - self.agreement * share) - FLOOR_PX) / OF_PX)


CENTRE = Coefficients(1.81, 0.65, 0.0)
CORNERS = Coefficients(2.75, 0.50, 0.55)


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
    off, share = _off(matches, places) / matches.size[0], _agreement(matches, places)
    centre, corners = CENTRE.bound(off[:1], share[:1]), CORNERS.bound(off[1:], share[1:])
    return ErrorBound(round(float(centre[0]) * visible_width_px, 2), round(float(corners.max()) * visible_width_px, 2))


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


def _off(matches: Matches, places: Array) -> Array:
    """P: pixels by which maps of two halves of the blocks differ at each place (Px2), and that of all moves it.

    Root of the sum of both squares, the former being the mean over several splits.
    """

    def moved(some: Matches) -> Array:
        return np.asarray(cv2.perspectiveTransform(places[None], fit(some, HALF_MODEL, WINDOW_PX).matrix)[0])

    rng = np.random.default_rng(0)  # the same matches have the same bound
    count = len(matches.centres)
    firsts = [rng.permutation(count) < count / 2 for _ in range(SPLITS)]
    apart = [moved(matches.only(first)) - moved(matches.only(~first)) for first in firsts]
    squares = np.mean(np.square(apart), axis=0) + (moved(matches) - places) ** 2
    return np.asarray(np.sqrt(squares.sum(axis=1)))


def _agreement(matches: Matches, places: Array) -> Array:
    """P: the share of the blocks around each place (Px2) that agree, 0..1; without blocks there nearly 0."""
    squared = ((matches.centres[:, None] - places[None]) ** 2).sum(axis=2)
    weight = np.exp(-squared / (2 * (NEARBY * matches.size[0]) ** 2))
    return np.asarray((weight * matches.near()[:, None]).sum(axis=0) / (weight.sum(axis=0) + 1e-9))


def view_parts(centres: Array) -> NDArray[np.int64]:
    """N: which of ``GRID`` x ``GRID`` parts, each column and row with as many blocks, a block belongs to."""
    steps = np.arange(1, GRID) / GRID
    column, row = (np.searchsorted(np.quantile(axis, steps), axis) for axis in centres.T)
    return np.asarray(row * GRID + column, np.int64)
