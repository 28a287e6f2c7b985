"""Synthetic photographs in files."""

from pathlib import Path

import cv2
import numpy as np


def write(path: Path, height: int = 48, width: int = 64, seed: int = 0) -> Path:
    """Writes a smooth synthetic image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    assert cv2.imwrite(str(path), image)
    return path
