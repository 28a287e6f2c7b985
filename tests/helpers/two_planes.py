"""A made rig whose cameras stand beside one another, before a wall at 40 m and an object at 5 m."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (640, 480)  # visible
INFRARED_SIZE = (320, 240)
FOCAL_PX, BASE_M = 500.0, 0.07
FAR_M, NEAR_M = 40.0, 5.0
TRUE_MATRIX = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]])
"""Infrared pixel to visible pixel, for the wall."""


def parallax_px(distance_m: float) -> float:
    """How far right of its visible counterpart the registered image shows what is at a distance; 0 for the wall."""
    return FOCAL_PX * BASE_M * (1 / distance_m - 1 / FAR_M)


@cache
def texture(seed: int) -> NDArray[np.float32]:
    """HxW grey levels of shapes of many sizes."""
    rng = np.random.default_rng(seed)
    image = np.full(SIZE[::-1], 120, np.float32)
    for _ in range(260):
        x, y, size = int(rng.integers(0, SIZE[0])), int(rng.integers(0, SIZE[1])), int(rng.integers(8, 70))
        grey, kind = float(rng.integers(20, 235)), int(rng.integers(3))
        if kind == 0:
            cv2.rectangle(image, (x, y), (x + size, y + int(size * rng.uniform(0.4, 2))), grey, -1)
        elif kind == 1:
            cv2.circle(image, (x, y), size // 2, grey, -1)
        else:
            to = x + int(rng.integers(-90, 90)), y + int(rng.integers(-90, 90))
            cv2.line(image, (x, y), to, grey, int(rng.integers(2, 6)))
    return image


@cache
def near_mask() -> NDArray[np.float32]:
    """HxW: 1 where the visible camera sees the object."""
    mask = np.zeros(SIZE[::-1], np.float32)
    cv2.ellipse(mask, (250, 300), (150, 170), 0, 0, 360, 1.0, -1)
    return mask


def near_core() -> NDArray[np.bool_]:
    """HxW: the object without its border."""
    return np.asarray(cv2.erode(near_mask(), np.ones((41, 41), np.uint8)) > 0)


def far_core() -> NDArray[np.bool_]:
    """HxW: the wall, away from the object and the image border."""
    away = cv2.dilate(near_mask(), np.ones((81, 81), np.uint8)) == 0
    inside = np.zeros_like(away)
    inside[16:-16, 16:-16] = True
    return np.asarray(away & inside)


def _moved(image: NDArray[np.float32], by: float) -> NDArray[np.float32]:
    moved = cv2.warpAffine(image, np.array([[1.0, 0, by], [0, 1, 0]]), SIZE, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


@dataclass(frozen=True, slots=True)
class TwoPlanes:
    """The images of one moment: uint8, with ``noise`` grey levels of noise; ``near_m``: the object's distance."""

    near_m: float = NEAR_M
    noise: float = 5.0
    seeds: tuple[int, int] = (1, 2)

    def visible(self, moment: int) -> NDArray[np.uint8]:
        mask = near_mask()
        return self._noisy(texture(self.seeds[0]) * (1 - mask) + texture(self.seeds[1]) * mask, 2 * moment)

    def infrared(self, moment: int) -> NDArray[np.uint8]:
        """Of ``INFRARED_SIZE``, the contrast inverted."""
        shift = parallax_px(self.near_m)
        mask = _moved(near_mask(), shift)
        seen = texture(self.seeds[0]) * (1 - mask) + _moved(texture(self.seeds[1]), shift) * mask
        small = cv2.resize(255 - 0.6 * seen, INFRARED_SIZE, interpolation=cv2.INTER_AREA)
        return self._noisy(np.asarray(small, np.float32), 2 * moment + 1)

    def _noisy(self, image: NDArray[np.float32], seed: int) -> NDArray[np.uint8]:
        noise = np.random.default_rng(seed).normal(0, self.noise, image.shape)
        return np.asarray(np.clip(image + noise, 0, 255), np.uint8)
