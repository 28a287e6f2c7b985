"""Planes at several distances in pairs of a scene: where the blocks agree on displacements of their own.

The map of a rig's other plane is that of the first one moved by its parallax. Displacements are tried over a wide
range; the blocks decide on one, those that it explains are set aside, and what is left decides on the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3, scaling
from fusepipe.calibration.scene.block_matching import Level, VisibleFields, block_matches
from fusepipe.calibration.scene.local_matches import SHARPNESS, Matches, Model, fit
from fusepipe.calibration.scene.match_quality import BLOCKS_A_CELL, MIN_EVIDENCE
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.core.frames import Size

WIDE = Level(384, 48, 16, 40)  # parallax up to a tenth of the width
FINE = (Level(384, 48, 16, 8), Level(640, 48, 20, 6))
INLIERS = 0.3  # share of the blocks expected on a plane: the others may show anything
MIN_BLOCKS = 12
OVERLAP = 2.25  # times as many blocks as at the step of half a block, on which the evidence is counted
NEARLY = 0.08  # difference of correlation to its peak by which a plane explains a block
APART_PX = 2.5  # of 384: nearer displacements are one plane
MAX_PLANES = 3
FEW_BLOCKS = 36  # fewer fix a shift only

Region = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of the visible image."""


@dataclass(frozen=True, slots=True)
class DepthPlane:
    """One plane: ``matrix`` is 3x3, infrared to visible pixel, without the distortion of a lens.

    ``shift_px`` (x, y) is how far it moves the middle of the view from the map it was found with, in visible pixels;
    ``blocks`` is the number of blocks on it, ``middle`` (x, y) their mean position in the visible image and
    ``evidence`` as that of :class:`fusepipe.calibration.scene.match_quality.MatchQuality`.
    """

    matrix: Matrix3
    shift_px: tuple[float, float]
    blocks: int
    middle: tuple[float, float]
    evidence: float
    model: Model


def depth_planes(
    pairs: Sequence[ScenePair], matrix: Matrix3, lens: Lens | None = None, region: Region | None = None
) -> list[DepthPlane]:
    """Up to ``MAX_PLANES`` planes that the pairs show, the one with most evidence first; none where nothing agrees.

    ``matrix`` is a map of the rig for any distance, ``lens`` the infrared one where the matrix takes undistorted
    pixels. With a ``region`` only the blocks whose centre is inside count.
    """
    fields = VisibleFields(pairs)
    height, width = pairs[0].visible.shape
    visible = (width, height)
    wide = _inside(block_matches(pairs, matrix, WIDE, fields, lens), region, visible)
    found: list[DepthPlane] = []
    while len(wide.centres) >= MIN_BLOCKS and len(found) < MAX_PLANES:
        gains = _gains(wide)
        best, evidence = _best_displacement(gains, wide.radius_px)
        chosen = _explained(wide, best)
        if evidence < MIN_EVIDENCE or int(chosen.sum()) < MIN_BLOCKS:
            break
        scale = width / wide.size[0]
        start = _moved(best * scale) @ matrix
        plane = _refined(pairs, start, fields, lens, wide.only(chosen), visible)
        shift = plane_shift(matrix, plane[0], pairs[0].infrared.shape)
        middle = wide.centres[chosen].mean(axis=0) * scale
        found.append(
            DepthPlane(plane[0], shift, int(chosen.sum()), (float(middle[0]), float(middle[1])), evidence, plane[1])
        )
        wide = wide.only(~chosen)
    return found


def plane_shift(first: Matrix3, other: Matrix3, infrared_shape: tuple[int, ...]) -> tuple[float, float]:
    """(x, y) from where one matrix shows the middle of an infrared image (height, width) to where another does."""
    middle = np.array([(infrared_shape[1] - 1) / 2, (infrared_shape[0] - 1) / 2, 1.0])
    one, two = first @ middle, other @ middle
    by = two[:2] / two[2] - one[:2] / one[2]
    return round(float(by[0]), 2), round(float(by[1]), 2)


def _inside(matches: Matches, region: Region | None, visible: Size) -> Matches:
    if region is None:
        return matches
    centres = matches.centres * (visible[0] / matches.size[0])
    low = np.array(region[:2])
    return matches.only(np.asarray(((centres >= low) & (centres < low + region[2:])).all(axis=1)))


def _gains(matches: Matches) -> NDArray[np.float64]:
    """NxDxD: log likelihood of each block at each displacement, relative to a block that shows anything."""
    raised = np.exp(2 * SHARPNESS * matches.surfaces.astype(np.float64))
    ratio = raised / raised.mean(axis=(1, 2), keepdims=True)
    return np.asarray(np.log1p(INLIERS * (ratio - 1.0)), np.float64)


def _best_displacement(gains: NDArray[np.float64], radius: int) -> tuple[NDArray[np.float64], float]:
    """(dx, dy) with the highest likelihood of all blocks together, and its evidence."""
    total = gains.sum(axis=0) / (BLOCKS_A_CELL * OVERLAP)
    y, x = np.unravel_index(int(total.argmax()), total.shape)
    return np.array([x - radius, y - radius], np.float64), float(total[y, x])


def _explained(matches: Matches, displacement: NDArray[np.float64]) -> NDArray[np.bool_]:
    """N: which blocks agree with a displacement nearly as well as with their own best one."""
    surfaces = matches.surfaces
    r, reach = matches.radius_px, round(APART_PX)
    x, y = (int(v) + r for v in displacement)
    around = surfaces[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
    return np.asarray(around.max(axis=(1, 2)) >= surfaces.max(axis=(1, 2)) - NEARLY)


def _refined(
    pairs: Sequence[ScenePair],
    start: Matrix3,
    fields: VisibleFields,
    lens: Lens | None,
    on_plane: Matches,
    visible: Size,
) -> tuple[Matrix3, Model]:
    """The matrix that the blocks near those of the plane agree on."""
    matrix: Matrix3 = start
    model: Model = "shift"
    for level in FINE:
        matches = block_matches(pairs, matrix, level, fields, lens)
        scale = matches.size[0] / on_plane.size[0]
        apart = np.abs(matches.centres[:, None] - on_plane.centres[None] * scale).max(axis=2).min(axis=1)
        matches = matches.only(np.asarray(apart <= WIDE.step_px * scale / 2 + 1))
        if not len(matches.centres):
            continue
        model = "shift" if len(on_plane.centres) < FEW_BLOCKS else "similarity"
        matrix = scaling(matches.size, visible) @ fit(matches, model).matrix @ scaling(visible, matches.size) @ matrix
    return np.asarray(matrix / matrix[2, 2], np.float64), model


def _moved(by: NDArray[np.float64]) -> Matrix3:
    return np.array([[1.0, 0.0, by[0]], [0.0, 1.0, by[1]], [0.0, 0.0, 1.0]])
