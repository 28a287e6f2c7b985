"""Dead pixels of a sensor: found over time by their difference from all neighbours, and filled from those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Pixels, Plane
from fusepipe.core.gain_curves import noise_of

DEVIATION = 12.0  # standard deviations of the noise from the median of the 3x3 around it
DEVIATION_MIN = 20.0  # counts of 16-bit images; 8-bit ones have a 256th of the levels
FOLLOW = 0.15  # of a new image in a pixel's score
FOUND, HEALED = 0.8, 0.3  # scores from which a pixel counts as dead, and no longer
NEIGHBOURS = 8
REACH = 2  # pixels: neighbours within 5x5
MAX_SHARE = 0.01  # of all pixels: more are no dead pixels

Mask = NDArray[np.bool_]


class DeadPixelEstimate:
    """Which pixels are dead: those ``known`` as (x, y), and with ``find`` those that deviate in image after image.

    Pixels at count 0 or the highest count that stand out of their neighbours are dead from the first image on.
    """

    def __init__(self, known: Sequence[tuple[int, int]], *, find: bool) -> None:
        self._known, self._find = known, find
        self._score: NDArray[np.float32] | None = None
        self._found: Mask | None = None
        self._new = True

    def update(self, plane: Plane) -> bool:
        """Takes an image; whether :meth:`places` has changed."""
        new, self._new = self._new, False
        if not self._find:
            return new
        pixels = plane.pixels
        deviating, stuck = _deviating(pixels, (1 << plane.bit_depth) - 1)
        if self._score is None:
            self._score = np.zeros(pixels.shape, np.float32)
        self._score += np.float32(FOLLOW) * (deviating - self._score)
        self._score[stuck] = 1.0
        before = self._found
        found = self._score >= FOUND
        if before is not None:
            found |= before & (self._score > HEALED)
        if found.sum() > MAX_SHARE * found.size:
            found = np.zeros_like(found)
        self._found = found
        return new or before is None or not np.array_equal(found, before)

    def saved(self) -> dict[str, Any]:
        """What the next estimate depends on; :meth:`restore` takes it."""
        score = None if self._score is None else self._score.copy()  # which is updated in place
        return {"score": score, "found": self._found, "new": self._new}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Continues as the estimate that :meth:`saved` this."""
        self._score = None if saved["score"] is None else saved["score"].copy()
        self._found, self._new = saved["found"], saved["new"]

    def places(self, shape: tuple[int, int]) -> NDArray[np.intp]:
        """Flat indices of the dead pixels of an image of this (height, width)."""
        mask = np.zeros(shape, bool) if self._found is None else self._found.copy()
        for x, y in self._known:
            if y < shape[0] and x < shape[1]:
                mask[y, x] = True
        return np.flatnonzero(mask)


def _deviating(pixels: Pixels, highest: int) -> tuple[Mask, Mask]:
    """The pixels that stand out of the 3x3 around them, and those of them at the lowest or highest count."""
    least = DEVIATION_MIN if pixels.dtype == np.uint16 else DEVIATION_MIN / 2
    limit = max(least, DEVIATION * noise_of(pixels[::4]))
    deviating: Mask = cv2.absdiff(pixels, cv2.medianBlur(pixels, 3)) > limit
    return deviating, deviating & ((pixels == 0) | (pixels == highest))


class DeadPixelFilling:
    """Fills the pixels at ``places``, flat indices, by the median of up to 8 living ones within 5x5."""

    def __init__(self, places: NDArray[np.intp], shape: tuple[int, int]) -> None:
        self.places = places
        height, width = shape
        dead = np.zeros(height * width, bool)
        dead[places] = True
        offsets = [(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1) if (y, x) != (0, 0)]
        offsets.sort(key=lambda offset: offset[0] ** 2 + offset[1] ** 2)
        rows, columns = np.divmod(places, width)
        y = np.clip(rows[:, None] + [offset[0] for offset in offsets], 0, height - 1)
        x = np.clip(columns[:, None] + [offset[1] for offset in offsets], 0, width - 1)
        around = y * width + x
        # the nearest living ones first; in a dead cluster the pixel itself stands for what is missing
        order = np.argsort(dead[around], axis=1, kind="stable")
        nearest = np.take_along_axis(around, order, axis=1)[:, :NEIGHBOURS]
        alive = ~dead[nearest]
        first = nearest[:, :1]
        self._neighbours = np.where(alive, nearest, first)

    def fill(self, pixels: Pixels) -> Pixels:
        """A copy of HxW pixels with the dead ones filled; the pixels themselves where none is."""
        if not len(self.places):
            return pixels
        flat = pixels.ravel()
        filled = flat.copy()
        filled[self.places] = np.median(flat[self._neighbours], axis=1).astype(pixels.dtype)
        return filled.reshape(pixels.shape)
