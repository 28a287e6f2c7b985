"""Estimates the infrared lens's radial distortion from pairs of the scene.

Only the distortion relative to the visible image can be observed: the visible lens is assumed to be free of distortion,
and the infrared one has a first radial coefficient, centred on the image. The focal length cannot be observed; only
the distortion over its square matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.lens import Lens, radius_limit
from fusepipe.calibration.matrix import Matrix3, scaling
from fusepipe.calibration.scene.block_matching import Level, VisibleFields, block_matches, size_of
from fusepipe.calibration.scene.local_matches import Bending, Fit, Matches, fit
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.core.frames import Size

MIN_PAIRS = 3  # in a single pair, objects at other distances look like distortion
MIN_GAIN = 12.0  # of the log likelihood of all pairs: far more than another parameter has to bring
OUTER = 0.75  # of the visible radius: a lens needs blocks beyond it in three of the four quadrants
MAX_BEND = 0.3  # maximum relative displacement of a corner by the lens
LEVELS = (Level(512, 48, 24, 8), Level(512, 48, 24, 8), Level(640, 48, 24, 6))


@dataclass(frozen=True, slots=True)
class Bent:
    """``matrix`` takes infrared pixels without the distortion of ``lens`` to visible ones."""

    matrix: Matrix3
    lens: Lens


def plain_lens(size: Size, focal_px: float | None = None) -> Lens:
    """The infrared lens without distortion; the default focal length is the image width."""
    focal = focal_px or float(size[0])
    return Lens(size, focal, focal, (size[0] - 1) / 2, (size[1] - 1) / 2)


def with_lens(
    pairs: Sequence[ScenePair], matrix: Matrix3, fields: VisibleFields, focal_px: float | None = None
) -> Bent | None:
    """A map with a lens that fits the pairs clearly better than ``matrix``, or ``None``.

    It needs ``MIN_PAIRS`` pairs that show edges out to the corners.
    """
    if len(pairs) < MIN_PAIRS:
        return None
    visible_size = size_of(pairs[0].visible)
    now = Bent(matrix, plain_lens(size_of(pairs[0].infrared), focal_px))
    for turn, level in enumerate(LEVELS):
        matches = block_matches(pairs, now.matrix, level, fields, now.lens if turn else None)
        if not reaches_out(matches, now, visible_size):
            return None
        better = fit(matches, "homography+lens", bending=bending(now, matches.size, visible_size))
        if turn == 0:
            gain = better.likelihood - fit(matches, "homography").likelihood
            if gain * matches.pairs < MIN_GAIN:
                return None
        after = _after(now, better, matches.size, visible_size)
        if after is None:
            return None
        now = after
    return now


def bending(bent: Bent, small: Size, visible_size: Size) -> Bending:
    """The derivative of positions in the warped image of size ``small`` by the lens's first coefficient."""
    forward = scaling(visible_size, small) @ bent.matrix
    back = np.linalg.inv(forward)
    lens = bent.lens
    centre = np.array([lens.cx, lens.cy])
    first = lens.distortion[0] if lens.distortion else 0.0

    def moved(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        ideal = _through(back, positions)
        ray = (ideal - centre) / (lens.fx, lens.fy)
        square = (ray * ray).sum(axis=1, keepdims=True)
        # r (1 + k r^2) stays, so dr/dk = -r^3 / (1 + 3 k r^2)
        off = -(ideal - centre) * square / np.maximum(1 + 3 * first * square, 0.1)
        step = 1e-3
        return (_through(forward, ideal + step * off) - _through(forward, ideal - step * off)) / (2 * step)

    return moved


def reaches_out(matches: Matches, bent: Bent, visible_size: Size) -> bool:
    """Whether there are blocks far from the lens's axis in three quadrants of the image."""
    back = np.linalg.inv(scaling(visible_size, matches.size) @ bent.matrix)
    centre = np.array([bent.lens.cx, bent.lens.cy])
    ir_w, ir_h = bent.lens.size
    width, height = matches.size
    corners = _through(back, np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)) - centre
    # the field of view ends at the corners of the infrared image, or of the visible one where that is narrower
    most = min(float(np.hypot(ir_w, ir_h)) / 2, float(np.hypot(*corners.T).min()))
    off = _through(back, matches.centres) - centre
    far = off[np.hypot(*off.T) >= OUTER * most]
    return len({(x > 0, y > 0) for x, y in far}) >= 3


def _after(bent: Bent, better: Fit, small: Size, visible_size: Size) -> Bent | None:
    """``None`` for a distortion beyond the tested range."""
    matrix = scaling(small, visible_size) @ better.matrix @ scaling(visible_size, small) @ bent.matrix
    first = (bent.lens.distortion[0] if bent.lens.distortion else 0.0) + better.bend
    lens = replace(bent.lens, distortion=(first, 0.0, 0.0, 0.0))
    corner = float(np.hypot(lens.size[0], lens.size[1])) / 2 / lens.fx
    limit = radius_limit(lens)
    folds = np.isfinite(limit) and limit * (1 + first * limit * limit) < 1.02 * corner
    if folds or first * corner * corner > MAX_BEND:
        return None
    return Bent(np.asarray(matrix / matrix[2, 2], np.float64), lens)


def _through(matrix: NDArray[np.floating], points: NDArray[np.float64]) -> NDArray[np.float64]:
    moved = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ matrix.T
    return np.asarray(moved[:, :2] / moved[:, 2:], np.float64)
