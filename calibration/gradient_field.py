"""Gradient fields that match across bands: the orientation of edges, independent of their contrast.

An object has the same edges in both bands, but warm may be bright or dark. The gradient's angle is
therefore doubled, which makes (gx, gy) and (-gx, -gy) the same, and its length is saturated against the
mean gradient around it, so that weak and strong edges count alike. Squared gradients as vectors:
J. Bigun and G. H. Granlund, "Optimal orientation detection of linear symmetry", ICCV 1987; for matching
across bands: M. Irani and P. Anandan, "Robust multi-sensor image alignment", ICCV 1998.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Luma8, Plane
from fusepipe.core.levels import full_range_luma

Field = NDArray[np.float32]

SMOOTHING_PX = 1.0
SURROUND_PX = 8.0
FLOOR = 0.15
"""Gradients below this part of the image's mean count as noise, and fade."""


def gradient_field(luma: Luma8 | NDArray[np.float32]) -> Field:
    """HxWx2 float32: length 0..1 times (cos 2a, sin 2a) of the gradient's angle ``a``; ``luma`` is HxW."""
    smooth = cv2.GaussianBlur(np.asarray(luma, np.float32), (0, 0), SMOOTHING_PX)
    gx = cv2.Scharr(smooth, cv2.CV_32F, 1, 0)
    gy = cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
    squared = gx * gx + gy * gy
    length = np.sqrt(squared)
    around = np.sqrt(cv2.GaussianBlur(squared, (0, 0), SURROUND_PX))
    floor = np.float32(FLOOR * float(np.sqrt(squared.mean())) + 1e-6)
    # length / (length + around + floor), times (cos 2a, sin 2a) = (gx^2 - gy^2, 2 gx gy) / length^2
    scale = 1.0 / np.maximum(length * (length + around + floor), 1e-9)
    return np.stack([(gx * gx - gy * gy) * scale, 2.0 * gx * gy * scale], axis=-1).astype(np.float32)


def energy(field: Field) -> NDArray[np.float32]:
    """HxW: the squared lengths of a field (HxWx2)."""
    x, y = field[..., 0], field[..., 1]  # numpy is slow at sums of two
    return np.asarray(x * x + y * y, np.float32)


def to_luma8(plane: Plane) -> Luma8:
    """HxW uint8 full range of any plane; of 16-bit counts the 0.5 and 99.5 percentiles become 0 and 255."""
    counts = plane.pixels
    if counts.dtype != np.uint16:
        return full_range_luma(plane)
    low, high = np.percentile(counts[:: max(1, counts.shape[0] // 240), :: max(1, counts.shape[1] // 320)], (0.5, 99.5))
    scaled = (counts.astype(np.float32) - low) * (255.0 / max(float(high - low), 1.0))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def shrunk(luma: Luma8, size: tuple[int, int]) -> Luma8:
    """HxW to ``size`` (width, height), area-averaged where it is reduced."""
    smaller = size[0] < luma.shape[1]
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR), np.uint8)
