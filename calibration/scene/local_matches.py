"""Correlation surfaces of blocks, and the map that fits all of them.

The infrared gradient field, warped by the map known so far, is cut into blocks; each block is correlated
with the visible field at every displacement up to a radius. No block decides alone: the map is
estimated by expectation maximisation, in which each block's surface is a likelihood, weighted by a window around the
displacement that the map predicts; the window narrows in every iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.gradient_field import Field, energy
from fusepipe.calibration.matrix import Matrix3

Model = Literal["shift", "similarity", "affine", "homography", "homography+lens"]
MODELS: tuple[Model, ...] = ("shift", "similarity", "affine", "homography", "homography+lens")
PLANE_MODELS = MODELS[:-1]
FREEDOMS = {"shift": 2, "similarity": 4, "affine": 6, "homography": 8, "homography+lens": 9}

MIN_ENERGY = 0.02  # mean squared length of a block's field: below it there are no edges
MIN_SEEN = 0.8  # fraction of a block inside the infrared view
SHARPNESS = 5.0  # of the likelihood exp(SHARPNESS * correlation)
FREEDOM_COST = 0.5
ROUNDS = 12
LAST_WINDOW_PX = 1.2
MAX_INFORMATION = 4.0  # of one block, per pixel squared: no block outweighs the rest
NEAR_PX = 2.5

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Matches:
    """``centres`` Nx2 (x, y) of blocks in an image of ``size`` (width, height), ``surfaces`` NxDxD.

    ``surfaces[n, r + dy, r + dx]`` is the correlation -1..1 of block n displaced by (dx, dy), up to the
    radius r in each direction. ``pairs`` is how many pairs they are the mean of.
    """

    centres: Array
    surfaces: NDArray[np.float32]
    size: tuple[int, int]
    pairs: int = 1

    @property
    def radius_px(self) -> int:
        return int(self.surfaces.shape[1]) // 2

    def peaks(self) -> Array:
        """Nx2: the displacement (dx, dy) of each block's correlation peak."""
        side = self.surfaces.shape[1]
        flat = self.surfaces.reshape(-1, side * side).argmax(axis=1)
        return np.stack([flat % side, flat // side], axis=1).astype(np.float64) - self.radius_px

    def near(self, displacement: Array | None = None) -> NDArray[np.bool_]:
        """N: which blocks fit best within ``NEAR_PX`` of a displacement (Nx2; default: none at all)."""
        off = self.peaks() - (0.0 if displacement is None else displacement)
        return np.asarray(np.hypot(off[:, 0], off[:, 1]) <= NEAR_PX)

    def only(self, chosen: NDArray[np.bool_]) -> Matches:
        """Those of the chosen blocks (N)."""
        return Matches(self.centres[chosen], self.surfaces[chosen], self.size, self.pairs)

    @property
    def chance(self) -> float:
        """The fraction of blocks that would be near with random peaks."""
        return float(np.pi * NEAR_PX**2 / self.surfaces.shape[1] ** 2)


def match_blocks(
    infrared: Field, visible: Field, seen: NDArray[np.float32], *, block_px: int, step_px: int, radius_px: int
) -> Matches:
    """Correlates blocks of the (warped) infrared field with the visible one.

    Both HxWx2 as :func:`gradient_field` gives them; ``seen`` is HxW float32, 1 where the infrared camera
    sees. Blocks without edges, or mostly outside the infrared view, are skipped.
    """
    height, width = seen.shape
    r, side = radius_px, 2 * radius_px + 1
    framed = cv2.copyMakeBorder(visible, r, r, r, r, cv2.BORDER_CONSTANT)
    least = MIN_ENERGY * block_px * block_px
    # of the block at each position of the framed image
    others = np.maximum(_block_sums(energy(framed), block_px), least)
    masked = infrared * seen[..., None]
    owns = _block_sums(energy(masked), block_px)
    enough = (_block_sums(seen, block_px) >= MIN_SEEN * block_px * block_px) & (owns >= least)
    centres, surfaces = [], []
    for y, x in np.argwhere(enough[::step_px, ::step_px]) * step_px:
        block = masked[y : y + block_px, x : x + block_px]
        product = cv2.matchTemplate(framed[y : y + block_px + 2 * r, x : x + block_px + 2 * r], block, cv2.TM_CCORR)
        centres.append((x + (block_px - 1) / 2, y + (block_px - 1) / 2))
        surfaces.append(product / np.sqrt(owns[y, x] * others[y : y + side, x : x + side]))
    empty = np.zeros((0, side, side), np.float32)
    return Matches(
        np.array(centres, np.float64).reshape(-1, 2),
        np.array(surfaces, np.float32) if surfaces else empty,
        (width, height),
    )


def _block_sums(image: NDArray[np.float32], block_px: int) -> NDArray[np.float32]:
    """The sum of the block whose upper left corner is at each position, where it lies within the image (HxW)."""
    sums = cv2.boxFilter(
        image, -1, (block_px, block_px), normalize=False, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT
    )
    return np.asarray(sums[: image.shape[0] - block_px + 1, : image.shape[1] - block_px + 1], np.float32)


def pooled(matches: list[Matches]) -> Matches:
    """Blocks of several pairs of one rig: the mean surface at each position."""
    if len(matches) == 1:
        return matches[0]
    sums: dict[tuple[float, float], tuple[NDArray[np.float32], int]] = {}
    for one in matches:
        for centre, surface in zip(map(tuple, one.centres), one.surfaces, strict=True):
            total, count = sums.get(centre, (np.zeros_like(surface), 0))
            sums[centre] = total + surface, count + 1
    side = matches[0].surfaces.shape[1]
    surfaces = [total / count for total, count in sums.values()]
    return Matches(
        np.array(list(sums), np.float64).reshape(-1, 2),
        np.array(surfaces, np.float32) if surfaces else np.zeros((0, side, side), np.float32),
        matches[0].size,
        len(matches),
    )


@dataclass(frozen=True, slots=True)
class Fit:
    """``matrix`` 3x3 takes a position in the warped infrared image to its match.

    ``displacement`` Nx2 is what it predicts for each block, ``likelihood`` its log likelihood; ``bend``
    is by how much the lens's first radial coefficient grows.
    """

    matrix: Matrix3
    displacement: Array
    likelihood: float
    model: Model
    bend: float = 0.0


Bending = Callable[[Array], Array]
"""Nx2 positions in the warped image to their Nx2 derivative by the first coefficient of the lens."""


def fit(matches: Matches, model: Model, first_window_px: float | None = None, bending: Bending | None = None) -> Fit:
    """The map of a model that the blocks' surfaces agree on best; ``bending`` is needed where it has a lens."""
    jacobian = homography_jacobian(matches.centres, matches.size)[:, :, : FREEDOMS[model]]
    bend_px = 1.0
    if model == "homography+lens":
        if bending is None:
            raise ValueError("a model with a lens needs to know how the lens bends")
        moved = bending(matches.centres)
        bend_px = float(np.abs(moved).max()) or 1.0  # so that all columns are of one size
        jacobian = np.concatenate([jacobian, moved[:, :, None] / bend_px], axis=2)
    r = matches.radius_px
    along = np.arange(-r, r + 1, dtype=np.float64)
    powers = np.stack([np.ones_like(along), along, along * along], axis=1)
    likely = np.exp(SHARPNESS * matches.surfaces.astype(np.float64))
    theta = np.zeros(jacobian.shape[2])
    for window in np.geomspace(first_window_px or 0.7 * r, LAST_WINDOW_PX, ROUNDS):
        # the window is a product of one along x and one along y
        offsets = along - (jacobian @ theta)[:, :, None]
        windows = np.exp(-offsets * offsets / (2 * window * window))[..., None] * powers
        moments = windows[:, 1].transpose(0, 2, 1) @ likely @ windows[:, 0]  # NxIxJ: of y to the I times x to the J
        moments /= moments[:, :1, :1] + 1e-300
        mean = np.stack([moments[:, 0, 1], moments[:, 1, 0]], axis=1)
        # 0.02: a displacement is known to whole pixels only. What the window itself says is taken off.
        xx, yy = moments[:, 0, 2] - mean[:, 0] ** 2 + 0.02, moments[:, 2, 0] - mean[:, 1] ** 2 + 0.02
        information = _information(xx, yy, moments[:, 1, 1] - mean[:, 0] * mean[:, 1], 1.0 / (window * window))
        weighted = jacobian.transpose(0, 2, 1) @ information
        normal = (weighted @ jacobian).sum(axis=0) + 1e-6 * np.eye(len(theta))
        theta = np.linalg.solve(normal, (weighted @ mean[:, :, None])[..., 0].sum(axis=0))
    displacement = jacobian @ theta
    likelihood = log_likelihood(matches, displacement)
    bend = float(theta[8]) / bend_px if len(theta) > 8 else 0.0
    return Fit(_matrix(theta[:8], matches.size), displacement, likelihood, model, bend)


def _information(xx: Array, yy: Array, xy: Array, known: float) -> Array:
    """Nx2x2: the inverses of the covariances (N each), less what is ``known`` in every direction.

    What is left of each principal direction is 0 to ``MAX_INFORMATION``. In closed form: a symmetric 2x2 matrix is its
    mean, and a part that depends on twice the angle.
    """
    middle, half = (xx + yy) / 2, (xx - yy) / 2
    apart = np.hypot(half, xy)
    along, across = (
        np.clip(1 / np.maximum(variance, 1e-12) - known, 0.0, MAX_INFORMATION)
        for variance in (middle + apart, middle - apart)
    )
    mean, part = (along + across) / 2, (along - across) / 2 / np.maximum(apart, 1e-12)
    return np.stack([mean + part * half, part * xy, part * xy, mean - part * half], axis=1).reshape(-1, 2, 2)


def select_model(matches: Matches, models: tuple[Model, ...] = PLANE_MODELS) -> Fit:
    """The fit of the model with the best information criterion: a parameter has to raise the likelihood.

    H. Akaike, "A new look at the statistical model identification", 1974. The sharpness of the likelihood of
    a correlation is a choice (``SHARPNESS``), for which a parameter costs ``FREEDOM_COST``. A mean over several pairs
    counts as much as each of them.
    """
    fits = [fit(matches, model) for model in models]
    return max(fits, key=lambda f: matches.pairs * f.likelihood - FREEDOM_COST * FREEDOMS[f.model])


def log_likelihood(matches: Matches, displacement: Array) -> float:
    """Of all blocks being displaced so (Nx2), relative to uniformly distributed displacements."""
    surfaces = matches.surfaces
    r = matches.radius_px
    # a little smoothing: the surfaces are sampled at whole pixels
    at = np.clip(displacement + r, 0, 2 * r)
    x0, y0 = (np.minimum(a.astype(int), 2 * r - 1) for a in at.T)
    fx, fy = at[:, 0] - x0, at[:, 1] - y0
    n = np.arange(len(surfaces))
    value = (
        surfaces[n, y0, x0] * (1 - fx) * (1 - fy)
        + surfaces[n, y0, x0 + 1] * fx * (1 - fy)
        + surfaces[n, y0 + 1, x0] * (1 - fx) * fy
        + surfaces[n, y0 + 1, x0 + 1] * fx * fy
    )
    whole = np.log(np.exp(2 * SHARPNESS * surfaces.astype(np.float64)).mean(axis=(1, 2)))
    return float((2 * SHARPNESS * value - whole).sum())


def _unit(size: tuple[int, int]) -> Matrix3:
    """Pixels to coordinates in which the longer side runs from -1 to 1."""
    half = max(size) / 2
    return np.array([[1 / half, 0, -(size[0] - 1) / 2 / half], [0, 1 / half, -(size[1] - 1) / 2 / half], [0, 0, 1]])


def homography_jacobian(points: Array, size: tuple[int, int]) -> Array:
    """Nx2x8: displacement in pixels by shift (2), scale, roll, aspect, shear and tilt (2), to first order.

    ``points`` are Nx2 (x, y) in an image of ``size`` (width, height).
    """
    unit = _unit(size)
    x = points[:, 0] * unit[0, 0] + unit[0, 2]
    y = points[:, 1] * unit[1, 1] + unit[1, 2]
    one, zero = np.ones_like(x), np.zeros_like(x)
    return np.stack(
        [
            np.stack([one, zero, x, -y, x, y, x * x, x * y], axis=1),
            np.stack([zero, one, y, x, -y, x, x * y, y * y], axis=1),
        ],
        axis=1,
    )


def _matrix(theta: Array, size: tuple[int, int]) -> Matrix3:
    unit = _unit(size)
    t = np.zeros(8)
    t[: len(theta)] = theta * unit[0, 0]
    change = np.array([[1 + t[2] + t[4], t[5] - t[3], t[0]], [t[5] + t[3], 1 + t[2] - t[4], t[1]], [-t[6], -t[7], 1.0]])
    return np.asarray(np.linalg.inv(unit) @ change @ unit, np.float64)
