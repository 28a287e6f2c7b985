"""How noisy an image is, from its smoothest parts, and smoothing that fits. Pure."""

from __future__ import annotations

import cv2
import numpy as np

from fusepipe.core.frames import Pixels

KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""The difference of two Laplacians (Immerkaer, CVIU 1996): planes and straight edges give 0, noise 6 deviations."""
BLOCK = 16  # pixels
BLOCKS_MIN = 16
SMOOTHEST = 20.0  # percent of the blocks: others have texture
BIAS = 0.93  # of the deviation in the smoothest blocks, of noise alone
CLIPPED = 8.0  # levels from black and white of 8 bits: the noise is cut off there
RADIUS = 2  # pixels
STRENGTH = 2.5  # deviations of the noise: differences of neighbours beyond that are the scene's


def measured_noise(pixels: Pixels) -> float:
    """Standard deviation of independent noise, in the units of HxW uint8 or uint16; 0 where it is not measurable.

    From the fifth of the image with the least texture, so that detail is not taken for noise: of clean images below
    4 levels of 8 bits.
    """
    height, width = (side // BLOCK * BLOCK for side in pixels.shape)
    cut = pixels[:height, :width]
    depth = cv2.CV_16S if cut.dtype == np.uint8 else cv2.CV_32F
    if cut.size < BLOCKS_MIN * BLOCK**2:
        return 0.0
    size = width // BLOCK, height // BLOCK
    rough = cv2.resize(np.abs(cv2.filter2D(cut, depth, KERNEL)).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    if cut.dtype == np.uint8:
        level = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
        rough = rough[(level >= CLIPPED) & (level <= 255 - CLIPPED)]
    if rough.size < BLOCKS_MIN:
        return 0.0
    # the mean of the absolute value of a Gaussian is sqrt(2 / pi) deviations
    return float(np.percentile(rough, SMOOTHEST) * (np.pi / 2) ** 0.5 / 6.0 / BIAS)


def without_noise(pixels: Pixels, deviation: float) -> Pixels:
    """HxW uint8 or uint16 smoothed where neighbours differ by no more than noise of this ``deviation``, same type.

    A bilateral filter (Tomasi and Manduchi, ICCV 1998): edges and what is larger than the noise stay.
    """
    size, strength = 2 * RADIUS + 1, STRENGTH * deviation
    if pixels.dtype == np.uint8:
        return np.asarray(cv2.bilateralFilter(pixels, size, strength, RADIUS), np.uint8)
    smooth = cv2.bilateralFilter(pixels.astype(np.float32), size, strength, RADIUS)
    return np.asarray(np.rint(smooth), np.uint16)
