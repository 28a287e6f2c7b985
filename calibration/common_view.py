"""The common field of view: the part of the visible image that both cameras see, as one rectangle."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8, Pixels, Size

SEARCH_SIDE = 256  # cells along the longer side of the image, in the search for the rectangle
MIN_SIDE_PX = 16


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Pixels ``left`` to ``left + width - 1`` across, ``top`` to ``top + height - 1`` down. All four are even, so
    that subsampled chroma can be cut at the same places, except for a whole image of odd size.
    """

    left: int
    top: int
    width: int
    height: int

    @property
    def size(self) -> Size:
        return self.width, self.height

    def cut(self, pixels: Pixels, across: int = 1, down: int = 1) -> Pixels:
        """A view of HxW pixels that are subsampled by ``across`` and ``down``."""
        rows = slice(self.top // down, -(-(self.top + self.height) // down))
        return pixels[rows, self.left // across : -(-(self.left + self.width) // across)]


def common_view(valid: Luma8 | None, visible_size: Size) -> Rectangle:
    """The largest upright rectangle in which a HxW uint8 mask is 255, to within a cell; ``None``: the whole image.

    Found on a grid of up to 256 cells, then grown pixel by pixel. Raises :class:`UsageError` where it would be
    smaller than 16 pixels.
    """
    width, height = visible_size
    if valid is None or bool((valid == 255).all()):
        return Rectangle(0, 0, width, height)
    cell = max(2, -(-max(width, height) // SEARCH_SIDE))
    cell += cell % 2
    # a cell counts where all of its pixels do: erode starts at a cell's first pixel
    whole = cv2.erode(valid, np.ones((cell, cell), np.uint8), anchor=(0, 0), borderValue=0)
    left, top, columns, rows = _largest(whole[::cell, ::cell] == 255)
    found = _grown(valid, Rectangle(left * cell, top * cell, columns * cell, rows * cell))
    if min(found.size) < MIN_SIDE_PX:
        raise UsageError(
            f"the common field of view is {found.width}x{found.height} of {width}x{height} pixels: too small to crop "
            "to; calibrate again, or set registration.outside to visible"
        )
    return found


def _largest(free: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(left, top, columns, rows) of the largest rectangle of true cells: the largest under a histogram, row by row."""
    best, best_area = (0, 0, 0, 0), 0
    heights = np.zeros(free.shape[1], np.int_)
    for row, line in enumerate(free):
        heights = np.where(line, heights + 1, 0)
        open_bars: list[tuple[int, int]] = []  # (left, height), rising
        for column, height in enumerate([*heights.tolist(), 0]):
            left = column
            while open_bars and open_bars[-1][1] >= height:
                left, tall = open_bars.pop()
                if tall * (column - left) > best_area:
                    best_area = tall * (column - left)
                    best = left, row - tall + 1, column - left, tall
            open_bars.append((left, height))
    return best


def _grown(valid: Luma8, inside: Rectangle) -> Rectangle:
    """As far as the mask goes beyond the grid's cells, two pixels at a time."""
    height, width = valid.shape
    left, top, right, bottom = inside.left, inside.top, inside.left + inside.width, inside.top + inside.height
    if not inside.width:
        return inside
    while left >= 2 and (valid[top:bottom, left - 2 : left] == 255).all():
        left -= 2
    while right + 2 <= width and (valid[top:bottom, right : right + 2] == 255).all():
        right += 2
    while top >= 2 and (valid[top - 2 : top, left:right] == 255).all():
        top -= 2
    while bottom + 2 <= height and (valid[bottom : bottom + 2, left:right] == 255).all():
        bottom += 2
    return Rectangle(left, top, right - left, bottom - top)
