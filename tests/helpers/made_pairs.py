"""Synthetic pairs of images to train on."""

import cv2
import numpy as np

from fusepipe.train.data.pairs import Pair


def make_pairs(count: int = 3, height: int = 48, width: int = 64) -> list[Pair]:
    rng = np.random.default_rng(5)

    def image() -> np.ndarray:
        return np.asarray(cv2.GaussianBlur(rng.integers(0, 256, (height, width), np.uint8), (0, 0), 2), np.uint8)

    return [Pair(f"made/{n}", image(), image()) for n in range(count)]
