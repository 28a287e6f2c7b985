"""Metrics that compare the fused image with its sources: CC and its bound, SCD, SSIM, VIF."""

from __future__ import annotations

import numpy as np

from fusepipe.evaluation.images import Real, Variant, filter_valid, gaussian, require_luma, require_variant
from fusepipe.frames import Luma8


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


def _ssim(a: Real, b: Real, dynamic_range: float) -> float:
    kernel = gaussian(11, 1.5)
    c1, c2 = (0.01 * dynamic_range) ** 2, (0.03 * dynamic_range) ** 2
    mean_a, var_a = _moments(a, kernel)
    mean_b, var_b = _moments(b, kernel)
    product = mean_a * mean_b
    covariance = filter_valid(a * b, kernel) - product
    top = (2.0 * product + c1) * (2.0 * covariance + c2)
    below = (mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2)
    return float(np.mean(top / below))


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


# Four scales of the pixel-domain VIF need this much on each side: 17 taps, then three halvings.
VIF_MINIMUM_PX = 41


def vif(reference: Luma8, image: Luma8) -> float:
    """Pixel-domain VIF of one image with one reference, HxW uint8 each, at least 41x41.

    VIF = sum log(1 + g^2 vr / (vn + 2)) / sum log(1 + vr / 2) over four scales, where in a Gaussian
    window (N = 17, 9, 5, 3, sigma N/5) vr is the reference's variance, g the gain cov/vr and vn what the
    gain leaves unexplained; noise variance 2. Range 0 upward: 1 for identical images, above 1 where
    contrast is raised. A constant reference holds no information to lose and gives 1, as in public
    implementations. Source: Sheikh, Bovik, "Image information and visual quality", IEEE TIP 15(2), 2006
    (their ``vifp_mscale``).
    """
    require_luma(VIF_MINIMUM_PX, reference=reference, image=image)
    return _vif(reference.astype(np.float64), image.astype(np.float64))


def _vif(reference: Real, image: Real) -> float:
    noise, tiny = 2.0, 1e-10
    kept = total = 0.0
    for size_px in (17, 9, 5, 3):
        kernel = gaussian(size_px, size_px / 5.0)
        if size_px < 17:
            # contiguous: OpenCV filters strided views, but copies them each time
            reference = np.ascontiguousarray(filter_valid(reference, kernel)[::2, ::2])
            image = np.ascontiguousarray(filter_valid(image, kernel)[::2, ::2])
        mean_r, var_r = _moments(reference, kernel)
        mean_i, var_i = _moments(image, kernel)
        covariance = filter_valid(reference * image, kernel) - mean_r * mean_i
        # rounding makes variances of flat windows slightly negative
        var_r, var_i = np.maximum(var_r, 0.0), np.maximum(var_i, 0.0)
        gain = covariance / (var_r + tiny)
        rest = var_i - gain * covariance
        flat_r, flat_i = var_r < tiny, var_i < tiny
        gain[flat_r | flat_i] = 0.0
        rest[flat_r] = var_i[flat_r]
        rest[flat_i] = 0.0
        # an inverted copy carries nothing: a negative gain counts as pure noise
        inverted = gain < 0
        rest[inverted] = var_i[inverted]
        gain[inverted] = 0.0
        kept += float(np.sum(np.log1p(gain * gain * var_r / (np.maximum(rest, tiny) + noise))))
        total += float(np.sum(np.log1p(np.where(flat_r, 0.0, var_r) / noise)))
    return kept / total if total > 0 else 1.0


def vif_sum(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """VIF = VIF(IR, F) + VIF(VIS, F), the pixel-domain :func:`vif` of both; HxW uint8, at least 41x41.

    Range 0 upward, higher is better. F = IR = VIS gives 2; each constant source gives 1.
    """
    require_luma(VIF_MINIMUM_PX, ir=ir, vis=vis, fused=fused)
    f = fused.astype(np.float64)
    return _vif(ir.astype(np.float64), f) + _vif(vis.astype(np.float64), f)
