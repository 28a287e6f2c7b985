"""Metrics after the contrast sensitivity of the eye: Q_CB and Q_CV.

Both follow the code of Z. Liu's toolbox, in which nearly all published values were computed, where it
and the papers differ: each image is stretched to 0..255 first, and images are padded with zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.luma import Real, require_luma

# Q_CB: difference of Gaussians in frequency (cycles per degree), and exponents of the masked contrast.
DOG_WIDE, DOG_NARROW, DOG_DEPTH = 15.3870, 1.3456, 0.7622
CONTRAST_P, CONTRAST_Q, CONTRAST_Z = 3, 2, 0.0001
CONTRAST_RADIUS_PX = 15

# Q_CV: side of the regions and exponent of their edge strength.
REGION_PX, SALIENCY_EXPONENT = 16, 5


def _stretched(image: Luma8) -> Real:
    """The image's own range to whole numbers 0..255, halves up; a constant image to its own level."""
    low, high = int(image.min()), int(image.max())
    pixels = image.astype(np.float64)
    if low == high:
        return pixels
    stretched: Real = np.floor((pixels - low) / (high - low) * 255.0 + 0.5)
    return stretched


def _filtered(image: Real, sensitivity: Callable[[Real], Real], pixels_per_degree: float) -> Real:
    """The image weighted in frequency: ``sensitivity`` of cycles per degree, with periodic borders.

    ``pixels_per_degree`` in the toolbox's sense: a side of n pixels spans frequencies up to n over it.
    """
    height, width = image.shape
    fy = np.abs(np.fft.fftfreq(height)) * 2.0 * height / pixels_per_degree
    fx = np.fft.rfftfreq(width) * 2.0 * width / pixels_per_degree
    weights = sensitivity(np.hypot(fy[:, None], fx[None, :]))
    filtered: Real = np.fft.irfft2(np.fft.rfft2(image) * weights, s=image.shape)
    return filtered


def _difference_of_gaussians(r: Real) -> Real:
    value: Real = np.exp(-((r / DOG_WIDE) ** 2)) - DOG_DEPTH * np.exp(-((r / DOG_NARROW) ** 2))
    return value


def _contrast(image: Luma8) -> Real:
    """Masked Peli contrast of one image after the difference of Gaussians, HxW, at least 0."""
    seen = _filtered(_stretched(image), _difference_of_gaussians, 30.0)
    x = np.arange(-CONTRAST_RADIUS_PX, CONTRAST_RADIUS_PX + 1, dtype=np.float64)
    local, around = (
        cv2.sepFilter2D(seen, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
        for kernel in (np.exp(-(x * x) / (2.0 * s * s)) / (np.sqrt(2.0 * np.pi) * s) for s in (2.0, 4.0))
    )
    dark = around == 0
    contrast: Real = np.abs(local / np.where(dark, 1.0, around) - 1.0)
    contrast[dark] = 0.0
    squared = contrast * contrast
    masked: Real = squared * contrast / (squared + CONTRAST_Z)
    return masked


def _kept(source: Real, fused: Real) -> Real:
    """The smaller contrast over the larger; 1 where neither has any."""
    high = np.maximum(source, fused)
    none = high == 0
    kept: Real = np.where(none, 1.0, np.minimum(source, fused) / np.where(none, 1.0, high))
    return kept


def qcb(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """Q_CB: how much of the sources' local contrast the eye finds again, of HxW uint8 images.

    Q = mean (l_IR Q_IR + l_VIS Q_VIS), l the shares of C'^2, Q the smaller of source's and fused image's C'
    over the larger; C' = C^3 / (C^2 + .0001), C = |G_2 * I / G_4 * I - 1| (Gaussians of 31x31), after
    exp(-(r / 15.387)^2) - .7622 exp(-(r / 1.3456)^2) in frequency, r up to side/30. Range 0..1, higher is
    better. Where neither source has contrast both count half; identical images, constant ones included,
    give 1. Source: Chen, Blum, "A new automated quality assessment algorithm for image fusion", Image and
    Vision Computing 27, 2009. With the toolbox each image is stretched to 0..255 first; zero padding.
    """
    require_luma(ir=ir, vis=vis, fused=fused)
    of_ir, of_vis, of_fused = (_contrast(image) for image in (ir, vis, fused))
    power_ir, power_vis = of_ir * of_ir, of_vis * of_vis
    power = power_ir + power_vis
    empty = power == 0
    share = np.where(empty, 0.5, power_ir / np.where(empty, 1.0, power))
    return float(np.mean(share * _kept(of_ir, of_fused) + (1.0 - share) * _kept(of_vis, of_fused)))


def _mannos_sakrison(r: Real) -> Real:
    value: Real = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
    return value


def _regions(image: Real) -> Real:
    """Sums over 16x16 regions; those at the right and lower edge end in zeros."""
    height, width = image.shape
    padded = np.pad(image, ((0, -height % REGION_PX), (0, -width % REGION_PX)))
    rows, columns = padded.shape[0] // REGION_PX, padded.shape[1] // REGION_PX
    sums: Real = padded.reshape(rows, REGION_PX, columns, REGION_PX).sum(axis=(1, 3))
    return sums


def _saliency(image: Real) -> Real:
    """Sum of the Sobel strength to the fifth power of each region."""
    gx = cv2.Sobel(image, cv2.CV_64F, 1, 0, ksize=3, borderType=cv2.BORDER_CONSTANT)
    gy = cv2.Sobel(image, cv2.CV_64F, 0, 1, ksize=3, borderType=cv2.BORDER_CONSTANT)
    power: Real = gx * gx + gy * gy
    return _regions(power * power * np.sqrt(power))


def qcv(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """Q_CV: what the eye sees of the differences to the sources, of HxW uint8 images; lower is better.

    Q = sum_W (l_IR D_IR + l_VIS D_VIS) / sum_W (l_IR + l_VIS) over 16x16 regions W; D the mean squared
    difference after 2.6 (.0192 + .144 r) exp(-(.144 r)^1.1) in frequency (Mannos, Sakrison; r up to
    side/8), l the sum of the source's Sobel strength^5. Range 0 upward, 0 for identical images. Where no
    source has an edge all regions weigh the same. Source: Chen, Varshney, "A human perception inspired
    quality metric for image fusion based on regional information", Information Fusion 8(2), 2007. With the
    toolbox each image is stretched to 0..255 first; zero padding, also of incomplete regions.
    """
    require_luma(ir=ir, vis=vis, fused=fused)
    stretched_fused = _stretched(fused)
    weighted = weights = plain = 0.0
    for source in (_stretched(ir), _stretched(vis)):
        saliency = _saliency(source)
        seen = _filtered(source - stretched_fused, _mannos_sakrison, 8.0)
        difference = _regions(seen * seen) / REGION_PX**2
        weighted += float(np.sum(saliency * difference))
        weights += float(np.sum(saliency))
        plain += float(np.mean(difference)) / 2.0
    return weighted / weights if weights > 0 else plain
