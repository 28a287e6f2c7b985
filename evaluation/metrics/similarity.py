"""Metrics that compare the fused image with its sources: CC and its bound, SCD, SSIM, MS-SSIM, MSE, PSNR."""

from __future__ import annotations

import math

import cv2
import numpy as np

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.luma import Real, Variant, filter_valid, gaussian, require_luma, require_variant


def _pearson(a: Real, b: Real) -> float:
    """Pearson's r of two arrays of whole numbers; 0 where one is constant (nothing to correlate)."""
    da, db = a - a.mean(), b - b.mean()
    # sums, not BLAS products: the same bits whatever the number of threads
    power = float(np.sum(da * da)) * float(np.sum(db * db))
    return float(np.sum(da * db)) / float(np.sqrt(power)) if power > 0 else 0.0


def correlation(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """CC = (r(IR, F) + r(VIS, F)) / 2, Pearson's r over all pixels of HxW uint8 images.

    Range -1..1, higher is better, and never above :func:`correlation_bound`. r counts as 0 where an
    image is constant. F = IR = VIS gives 1. Source: Ma, Ma, Li, "Infrared and visible image fusion
    methods and applications: a survey", Information Fusion 45, 2019, Sec. 5.
    """
    require_luma(ir=ir, vis=vis, fused=fused)
    f = fused.astype(np.float64)
    return (_pearson(ir.astype(np.float64), f) + _pearson(vis.astype(np.float64), f)) / 2.0


def correlation_bound(ir: Luma8, vis: Luma8) -> float:
    """The largest CC that any image can have with these sources: sqrt((1 + r(IR, VIS)) / 2).

    Centred and normalised images are unit vectors; the vector whose mean cosine with two of them is
    largest is their bisector, and the cosine of half their angle is this root. Range 0..1. Where one
    source is constant its r is 0 for every F, so that the bound is 0.5 (0 where both are).
    """
    require_luma(ir=ir, vis=vis)
    constant = sum(int(image.min() == image.max()) for image in (ir, vis))
    if constant:
        return 0.5 * (2 - constant)
    return float(np.sqrt((1.0 + _pearson(ir.astype(np.float64), vis.astype(np.float64))) / 2.0))


def scd(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """SCD = r(F - VIS, IR) + r(F - IR, VIS), the sum of the correlations of differences.

    HxW uint8 images. Range -2..2, higher is better; clipped ``ir + vis - mean`` wins it with 1.99. r
    counts as 0 where a difference or a source is constant, thus for F equal to a source up to a
    constant. Source: Aslantas, Bendes, "A new image quality metric for image fusion: the sum of the
    correlations of differences", AEU 69(12), 2015.
    """
    require_luma(ir=ir, vis=vis, fused=fused)
    i, v, f = (image.astype(np.float64) for image in (ir, vis, fused))
    return _pearson(f - v, i) + _pearson(f - i, v)


def _moments(image: Real, kernel: Real) -> tuple[Real, Real]:
    """Windowed mean and population variance over whole windows."""
    mean = filter_valid(image, kernel)
    return mean, filter_valid(image * image, kernel) - mean * mean


def ssim_with(reference: Luma8, image: Luma8, dynamic_range: float = 255.0) -> float:
    """SSIM of one image with one reference, HxW uint8 each, at least 11x11.

    SSIM = (2 ma mb + C1)(2 sab + C2) / ((ma^2 + mb^2 + C1)(va + vb + C2)), mean over the whole windows;
    Gaussian window of 11, sigma 1.5, population covariance, C1 = (0.01 L)^2, C2 = (0.03 L)^2 on 0..255
    data with L = ``dynamic_range``. Range -1..1, 1 for identical images, constant ones included.
    Source: Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 13(4), 2004, Eq. 13.
    """
    require_luma(11, reference=reference, image=image)
    return _ssim(reference.astype(np.float64), image.astype(np.float64), dynamic_range)


def _ssim_maps(a: Real, b: Real, dynamic_range: float) -> tuple[Real, Real]:
    """Luminance term and contrast-structure term of each whole window; SSIM is their product."""
    kernel = gaussian(11, 1.5)
    c1, c2 = (0.01 * dynamic_range) ** 2, (0.03 * dynamic_range) ** 2
    mean_a, var_a = _moments(a, kernel)
    mean_b, var_b = _moments(b, kernel)
    product = mean_a * mean_b
    covariance = filter_valid(a * b, kernel) - product
    luminance: Real = (2.0 * product + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    structure: Real = (2.0 * covariance + c2) / (var_a + var_b + c2)
    return luminance, structure


def _ssim(a: Real, b: Real, dynamic_range: float) -> float:
    luminance, structure = _ssim_maps(a, b, dynamic_range)
    return float(np.mean(luminance * structure))


def ssim(ir: Luma8, vis: Luma8, fused: Luma8, variant: Variant = "paper") -> float:
    """SSIM = (SSIM(IR, F) + SSIM(VIS, F)) / 2, see :func:`ssim_with`; HxW uint8, at least 11x11.

    ``common`` uses the dynamic range L = 255 of the data. ``paper`` uses L = 1 on the same 0..255 data
    (C1 = 1e-4, C2 = 9e-4), which punishes noise in flat areas far more and gives lower numbers. Both
    count whole windows only; codes that mirror the border differ by about 0.001. Range -1..1, higher is
    better. F = IR = VIS gives 1.
    """
    require_luma(11, ir=ir, vis=vis, fused=fused)
    require_variant(variant)
    dynamic_range = 255.0 if variant == "common" else 1.0
    f = fused.astype(np.float64)
    return sum(_ssim(source.astype(np.float64), f, dynamic_range) for source in (ir, vis)) / 2.0


# The weights of the five scales, finest first, and the least side that leaves 11 pixels at the coarsest.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_MINIMUM_PX = 161


def ms_ssim(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """MS-SSIM = (MS-SSIM(IR, F) + MS-SSIM(VIS, F)) / 2 of HxW uint8 images, at least 161x161.

    MS-SSIM = prod_1..4 mean(cs_j)^w_j * mean(l_5 cs_5)^w_5, w = .0448, .2856, .3001, .2363, .1333; l and
    cs are the luminance and the contrast-structure term of SSIM (Gaussian 11, sigma 1.5, whole windows,
    L = 255); each scale is the 2x2 block mean of the one before. A negative mean, which has no real
    power, counts as 0. Range 0..1, higher is better. Identical images, constant ones included, give 1.
    Source: Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment",
    Asilomar 2003, Eq. 7.
    """
    require_luma(MS_SSIM_MINIMUM_PX, ir=ir, vis=vis, fused=fused)
    return (_ms_ssim(ir, fused) + _ms_ssim(vis, fused)) / 2.0


def _ms_ssim(reference: Luma8, image: Luma8) -> float:
    a, b = reference.astype(np.float64), image.astype(np.float64)
    value = 1.0
    last = len(MS_SSIM_WEIGHTS) - 1
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            a, b = _halved(a), _halved(b)
        luminance, structure = _ssim_maps(a, b, 255.0)
        term = float(np.mean(luminance * structure if scale == last else structure))
        value *= max(term, 0.0) ** weight
    return value


def _halved(image: Real) -> Real:
    """Means of 2x2 blocks; an odd last row or column is repeated."""
    height, width = image.shape
    even: Real = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    halved: Real = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) * 0.25
    return halved


def mse(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """MSE = (mean (IR - F)^2 + mean (VIS - F)^2) / 2 of HxW uint8 images, squared grey levels.

    Range 0..65025, lower is better; the mean of the sources has the smallest possible value, so that it ranks
    nothing alone. F = IR = VIS gives 0. Source: Ma, Ma, Li, Information Fusion 45, 2019, Sec. 5.
    """
    require_luma(ir=ir, vis=vis, fused=fused)
    f = fused.astype(np.float64)
    return sum(float(np.mean((source - f) ** 2)) for source in (ir, vis)) / 2.0


def psnr(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """PSNR = 10 log10(255^2 / MSE) of HxW uint8 images, dB, with :func:`mse` over both sources.

    Range 0 upward, higher is better. Infinite where F = IR = VIS, which is the one case. Several public
    codes print 48.13 dB too little: they scale the images' peak to 1, but not their differences.
    """
    error = mse(ir, vis, fused)
    return 10.0 * math.log10(255.0 * 255.0 / error) if error > 0 else math.inf
