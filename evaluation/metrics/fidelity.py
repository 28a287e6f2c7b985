"""Metrics on visual information fidelity: the pixel-domain VIF, summed or averaged, and Han's VIFF."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.luma import Real, filter_valid, gaussian, require_luma

# Four scales need this much on each side: 17 taps, then three halvings.
VIF_MINIMUM_PX = 41

VIF_NOISE = 2.0
VIFF_NOISE = 0.005 * 255.0 * 255.0
# Weights of the four scales, finest first; they add up to 1.
VIFF_WEIGHTS = (1.0 / 2.15, 0.0, 0.15 / 2.15, 1.0 / 2.15)
# Added to each pixel's information, in decimal digits, so that flat windows of both sources divide.
VIFF_FLOOR = 1e-7


def _fidelity(reference: Real, image: Real, noise: float) -> Iterator[tuple[Real, Real, Real]]:
    """For each of four scales: the information kept, the information there was (nats) and the gain.

    In a Gaussian window (N = 17, 9, 5, 3, sigma N/5) the image is modelled as gain times reference plus
    noise; ``noise`` is the variance of the eye's own.
    """
    tiny = 1e-10
    for size_px in (17, 9, 5, 3):
        kernel = gaussian(size_px, size_px / 5.0)
        if size_px < 17:
            # contiguous: OpenCV filters strided views, but copies them each time
            reference = np.ascontiguousarray(filter_valid(reference, kernel)[::2, ::2])
            image = np.ascontiguousarray(filter_valid(image, kernel)[::2, ::2])
        mean_r, mean_i = filter_valid(reference, kernel), filter_valid(image, kernel)
        # rounding makes variances of flat windows slightly negative
        var_r = np.maximum(filter_valid(reference * reference, kernel) - mean_r * mean_r, 0.0)
        var_i = np.maximum(filter_valid(image * image, kernel) - mean_i * mean_i, 0.0)
        covariance = filter_valid(reference * image, kernel) - mean_r * mean_i
        gain = covariance / (var_r + tiny)
        rest = var_i - gain * covariance
        flat_r, flat_i = var_r < tiny, var_i < tiny
        gain[flat_r | flat_i] = 0.0
        rest[flat_r] = var_i[flat_r]
        rest[flat_i] = 0.0
        var_r[flat_r] = 0.0
        # an inverted copy carries nothing: a negative gain counts as pure noise
        inverted = gain < 0
        rest[inverted] = var_i[inverted]
        gain[inverted] = 0.0
        kept = np.log1p(gain * gain * var_r / (np.maximum(rest, tiny) + noise))
        yield kept, np.log1p(var_r / noise), gain


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
    return _vif(reference, image)


def _vif(reference: Luma8, image: Luma8) -> float:
    kept = total = 0.0
    for vid, vind, _ in _fidelity(reference.astype(np.float64), image.astype(np.float64), VIF_NOISE):
        kept += float(np.sum(vid))
        total += float(np.sum(vind))
    return kept / total if total > 0 else 1.0


def vif_sum(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """VIF = VIF(IR, F) + VIF(VIS, F), the pixel-domain :func:`vif` of both; HxW uint8, at least 41x41.

    Range 0 upward, higher is better. F = IR = VIS gives 2; each constant source gives 1.
    """
    require_luma(VIF_MINIMUM_PX, ir=ir, vis=vis, fused=fused)
    return _vif(ir, fused) + _vif(vis, fused)


def vif_mean(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """VIF = (VIF(IR, F) + VIF(VIS, F)) / 2: half of :func:`vif_sum`, as some tables print it.

    HxW uint8, at least 41x41. Range 0 upward, higher is better. F = IR = VIS gives 1, as do two
    constant sources.
    """
    return vif_sum(ir, vis, fused) / 2.0


def viff(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """VIFF of HxW uint8 images, at least 41x41: at each position the fidelity to the source that is preserved less.

    At each of the four scales of :func:`vif` (noise .005 * 255^2) each window takes kept and total
    information from the source with the smaller gain, the visible one's where equal; VIFF = sum_k p_k
    sum(kept + 1e-7) / sum(total + 1e-7), log10, p = [1, 0, .15, 1] / 2.15. Range 0 upward, higher is
    better; amplified noise raises it. F = IR = VIS gives 1, as do two constant sources. Source: Han, Cai,
    Cao, Xu, "A new image fusion performance metric based on visual information fidelity", Information
    Fusion 14(2), 2013.
    """
    require_luma(VIF_MINIMUM_PX, ir=ir, vis=vis, fused=fused)
    f = fused.astype(np.float64)
    value = 0.0
    of_ir = _fidelity(ir.astype(np.float64), f, VIFF_NOISE)
    of_vis = _fidelity(vis.astype(np.float64), f, VIFF_NOISE)
    digits = float(np.log(10.0))
    for weight, (kept_i, total_i, gain_i), (kept_v, total_v, gain_v) in zip(VIFF_WEIGHTS, of_ir, of_vis, strict=True):
        worse = gain_i < gain_v
        floor = VIFF_FLOOR * worse.size
        kept = float(np.sum(np.where(worse, kept_i, kept_v))) / digits + floor
        value += weight * kept / (float(np.sum(np.where(worse, total_i, total_v))) / digits + floor)
    return value
