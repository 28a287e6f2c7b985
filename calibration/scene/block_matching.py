"""Block matching: the infrared image warped by a map, and the displacement of each of its blocks.

A map is a matrix (3x3, infrared pixel to visible pixel), and a lens where the matrix takes undistorted infrared
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.gradient_field import Field, gradient_field, shrunk
from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3, scaling
from fusepipe.calibration.scene.local_matches import Matches, match_blocks, pooled
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.calibration.warp import inverse_map
from fusepipe.core.frames import Size


@dataclass(frozen=True, slots=True)
class Level:
    """One round of block matching: width of the visible image, block, step and radius in its pixels."""

    width_px: int
    block_px: int
    step_px: int
    radius_px: int


ALIASING_AT = 0.8  # an image that is reduced by more than this is smoothed first


class WarpedInfrared:
    """Infrared images warped by one map, for one width of the visible image; ``lens`` is the infrared one, if any."""

    def __init__(self, matrix: Matrix3, lens: Lens | None, infrared: Size, visible: Size, width_px: int) -> None:
        self.size = small_size(visible, width_px)
        self._matrix = scaling(visible, self.size) @ matrix
        self._shrink = float(np.sqrt(abs(np.linalg.det(self._matrix[:2, :2]))))
        self._grid: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        if lens is None:
            inside = cv2.warpPerspective(np.full(infrared[::-1], 255, np.uint8), self._matrix, self.size) == 255
        else:
            x, y, inside, _ = inverse_map(self._matrix, infrared, self.size, lens=lens)
            self._grid = x, y
        # two pixels at the border see the border in their gradients
        seen = cv2.erode(inside.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1)
        self.seen = np.asarray(seen, np.float32)
        """HxW, 1 where the infrared camera sees, else 0."""

    def field(self, infrared: NDArray[np.uint8]) -> Field:
        """The gradient field of an infrared image (HxW) in the visible geometry."""
        source = infrared
        if self._shrink < ALIASING_AT:
            source = np.asarray(cv2.GaussianBlur(source, (0, 0), 0.4 / self._shrink), np.uint8)
        if self._grid is None:
            warped = cv2.warpPerspective(
                source, self._matrix, self.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        else:
            warped = cv2.remap(source, *self._grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return gradient_field(np.asarray(warped, np.uint8))


class VisibleFields:
    """The gradient fields of the visible images at each width, computed once."""

    def __init__(self, pairs: Sequence[ScenePair]) -> None:
        self._pairs = pairs
        self._made: dict[tuple[int, int], Field] = {}

    def at(self, index: int, width_px: int) -> Field:
        visible = self._pairs[index].visible
        size = small_size((visible.shape[1], visible.shape[0]), width_px)
        key = index, size[0]
        if key not in self._made:
            self._made[key] = gradient_field(shrunk(visible, size))
        return self._made[key]


def small_size(size: Size, width_px: int) -> Size:
    """``size`` scaled down to a width; never up."""
    width = min(width_px, size[0])
    return width, max(8, round(width * size[1] / size[0]))


def size_of(image: NDArray[np.uint8]) -> Size:
    """(width, height) of HxW."""
    return image.shape[1], image.shape[0]


def each_matches(
    pairs: Sequence[ScenePair],
    matrix: Matrix3,
    level: Level,
    fields: VisibleFields | None = None,
    lens: Lens | None = None,
) -> list[Matches]:
    """The correlation surfaces of a level, pair by pair."""
    fields = fields or VisibleFields(pairs)
    view = WarpedInfrared(matrix, lens, size_of(pairs[0].infrared), size_of(pairs[0].visible), level.width_px)
    return [
        level_matches(view.field(pair.infrared), fields.at(index, level.width_px), view.seen, level)
        for index, pair in enumerate(pairs)
    ]


def block_matches(
    pairs: Sequence[ScenePair],
    matrix: Matrix3,
    level: Level,
    fields: VisibleFields | None = None,
    lens: Lens | None = None,
) -> Matches:
    """The same pooled over the pairs."""
    return pooled(each_matches(pairs, matrix, level, fields, lens))


def level_matches(infrared: Field, visible: Field, seen: NDArray[np.float32], level: Level) -> Matches:
    """Blocks of a level; small images have smaller ones."""
    scale = min(1.0, seen.shape[1] / level.width_px)
    block = max(16, round(level.block_px * scale))
    step = max(8, round(level.step_px * scale))
    return match_blocks(infrared, visible, seen, block_px=block, step_px=step, radius_px=level.radius_px)
