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

MIN_PAIRS = 2  # in a single pair, objects at other distances look like distortion
MIN_FIRST_GAIN = 3.0  # of the log likelihood of all pairs, before a lens is tried: blocks are still bent themselves
PATTERN_GAIN = 12.0  # of the same: the pattern of a lens; without one up to 10 where a data set has no distortion
MIN_GAIN = 24.0  # of the log likelihood of all pairs by the finished lens; without a lens up to 13, of 3 % from 33
OUTER = 0.75  # of the visible radius: a lens needs blocks beyond it in three of the four quadrants
MAX_BEND = 0.3  # maximum relative displacement of a corner by the lens
LEVELS = (Level(512, 48, 24, 8), Level(512, 48, 24, 8), Level(640, 48, 24, 6))


@dataclass(frozen=True, slots=True)
class Bent:
    """``matrix`` takes infrared pixels without the distortion of ``lens`` to visible ones."""

    matrix: Matrix3
    lens: Lens


@dataclass(frozen=True, slots=True)
class LensEvidence:
    """What pairs say about the distortion of the infrared lens relative to a map.

    ``bend`` is the relative displacement of the infrared image's corners: -0.04 is a barrel of 4 %. It is 0 unless a
    lens explains the pairs clearly better. ``reaches`` tells whether there are edges out to the corners, without which
    nothing is known.
    """

    bend: float
    reaches: bool
    pairs: int

    @property
    def known(self) -> bool:
        """Whether the pairs would show a lens."""
        return self.reaches and self.pairs >= MIN_PAIRS

    @property
    def text(self) -> str:
        """The pattern of a lens in words; empty where there is none."""
        if not self.bend:
            return ""
        kind = "barrel" if self.bend < 0 else "pincushion"
        part = f"{abs(self.bend):.0%}"
        return f"the residuals have the pattern of a lens, a {kind} distortion of about {part} at the corners"


def lens_evidence(
    pairs: Sequence[ScenePair],
    matrix: Matrix3,
    fields: VisibleFields,
    lens: Lens | None = None,
    focal_px: float | None = None,
) -> LensEvidence:
    """Whether a lens, or a change of ``lens``, explains the pairs better than the map of ``matrix`` alone."""
    now = Bent(matrix, lens or plain_lens(size_of(pairs[0].infrared), focal_px))
    if now.lens.model != "pinhole":
        return LensEvidence(0.0, False, len(pairs))
    visible_size = size_of(pairs[0].visible)
    matches = block_matches(pairs, matrix, LEVELS[0], fields, lens)
    if not reaches_out(matches, now, visible_size):
        return LensEvidence(0.0, False, len(pairs))
    better = fit(matches, "homography+lens", bending=bending(now, matches.size, visible_size))
    if _gain(matches, better) < PATTERN_GAIN:
        return LensEvidence(0.0, True, len(pairs))
    corner = float(np.hypot(now.lens.size[0] / now.lens.fx, now.lens.size[1] / now.lens.fy)) / 2
    return LensEvidence(better.bend * corner * corner, True, len(pairs))


def _gain(matches: Matches, better: Fit) -> float:
    return (better.likelihood - fit(matches, "homography").likelihood) * matches.pairs


def plain_lens(size: Size, focal_px: float | None = None) -> Lens:
    """The infrared lens without distortion; the default focal length is the image width."""
    focal = focal_px or float(size[0])
    return Lens(size, focal, focal, (size[0] - 1) / 2, (size[1] - 1) / 2)


def with_lens(
    pairs: Sequence[ScenePair], matrix: Matrix3, fields: VisibleFields, focal_px: float | None = None
) -> Bent | None:
    """A map with a lens that fits the pairs better than ``matrix``, or ``None``. Whether clearly, ``MIN_GAIN`` tells.

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
        if turn == 0 and _gain(matches, better) < MIN_FIRST_GAIN:
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
