"""Metrics on grey-level differences: Q^AB/F, N^AB/F, spatial frequency, average gradient."""

from __future__ import annotations

import cv2
import numpy as np

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.luma import Real, Variant, require_luma, require_variant


def _edges(image: Luma8, variant: Variant) -> tuple[Real, Real]:
    """Sobel edge strength and orientation (radians), HxW float64 each."""
    border = cv2.BORDER_REFLECT if variant == "paper" else cv2.BORDER_CONSTANT
    pixels = image.astype(np.float64)
    # cv2's x derivative is right minus left, its y derivative below minus above
    gx: Real = cv2.Sobel(pixels, cv2.CV_64F, 1, 0, ksize=3, borderType=border)
    gy: Real = cv2.Sobel(pixels, cv2.CV_64F, 0, 1, ksize=3, borderType=border)
    strength: Real = np.sqrt(gx * gx + gy * gy)
    if variant == "paper":
        # from the y axis: the position of the branch cut changes Q, and this one reproduces the known values
        return strength, np.arctan2(gx, gy)
    flat = gx == 0
    return strength, np.where(flat, np.pi / 2.0, np.arctan(-gy / np.where(flat, 1.0, gx)))


def _preservation(source: tuple[Real, Real], fused: tuple[Real, Real], variant: Variant) -> Real:
    """Q of each pixel: how much of the source's edge strength and orientation the fused image has."""
    (g_s, a_s), (g_f, a_f) = source, fused
    low, high = np.minimum(g_s, g_f), np.maximum(g_s, g_f)
    ratio = low / np.where(high > 0, high, 1.0)
    if variant == "common":
        # the public codes give equal strengths the strength itself in place of the ratio 1
        ratio = np.where(g_s == g_f, g_f, ratio)
    angle = 1.0 - np.abs(a_s - a_f) / (np.pi / 2.0)
    q_strength = 0.9994 / (1.0 + np.exp(-15.0 * (ratio - 0.5)))
    q_angle = 0.9879 / (1.0 + np.exp(-22.0 * (angle - 0.8)))
    return q_strength * q_angle


def qabf(ir: Luma8, vis: Luma8, fused: Luma8, variant: Variant = "paper") -> float:
    """Q^AB/F: how much of the sources' edges the fused image keeps, of HxW uint8 images.

    Q = sum(Q_IR g_IR + Q_VIS g_VIS) / sum(g_IR + g_VIS), g the Sobel strength; Q of a pixel is the
    product of two sigmoids, of the strength ratio (Gamma .9994, kappa -15, sigma .5) and of the
    orientation agreement 1 - |a - a_F| / (pi/2) (Gamma .9879, kappa -22, sigma .8). ``paper``:
    orientation atan2(gx, gy) in (-pi, pi], differences not wrapped, so that an edge of reversed contrast
    counts as lost; symmetric padding. ``common``: orientation by atan, zero padding, equal strengths
    count as their value in place of the ratio 1 (as in public codes; together with zero padding, constant
    images have edges at the border). Range 0 to 0.975, higher is better. Sources without any edge (both
    constant) give 0. Source: Xydeas, Petrovic, "Objective image fusion performance measure", Electronics
    Letters 36(4), 2000.
    """
    require_luma(ir=ir, vis=vis, fused=fused)
    require_variant(variant)
    edges_ir, edges_vis, edges_fused = (_edges(image, variant) for image in (ir, vis, fused))
    g_ir, g_vis = edges_ir[0], edges_vis[0]
    weight = float(np.sum(g_ir) + np.sum(g_vis))
    if weight == 0:
        return 0.0
    kept = _preservation(edges_ir, edges_fused, variant) * g_ir
    kept += _preservation(edges_vis, edges_fused, variant) * g_vis
    return float(np.sum(kept)) / weight


def spatial_frequency(image: Luma8) -> float:
    """SF = sqrt(mean (row differences)^2 + mean (column differences)^2) of one HxW uint8 image.

    Each mean is over the H(W-1) or (H-1)W differences; an axis of one pixel counts as 0.
    Range 0..361, higher is sharper, noise included. A constant image gives 0. Source: Eskicioglu, Fisher,
    "Image quality measures and their performance", IEEE Trans. Communications 43(12), 1995.
    """
    require_luma(image=image)
    pixels = image.astype(np.float64)
    power = 0.0
    for axis in (0, 1):
        if image.shape[axis] > 1:
            power += float(np.mean(np.diff(pixels, axis=axis) ** 2))
    return float(np.sqrt(power))


def average_gradient(image: Luma8) -> float:
    """AG = mean sqrt((gx^2 + gy^2) / 2) of one HxW uint8 image, central differences (``np.gradient``).

    One-sided differences at the borders; an axis of one pixel counts as 0. Range 0..255, higher is
    sharper, noise included. A constant image gives 0. Source: Cui, Feng, Xu, Li, Chen, "Detail
    preserved fusion of visible and infrared images using regional saliency extraction and multi-scale
    image decomposition", Optics Communications 341, 2015.
    """
    require_luma(image=image)
    pixels = image.astype(np.float64)
    power: Real = np.zeros_like(pixels)
    for axis in (0, 1):
        if image.shape[axis] > 1:
            power += np.gradient(pixels, axis=axis) ** 2
    return float(np.mean(np.sqrt(power / 2.0)))


def average_gradient_matlab(image: Luma8) -> float:
    """AG as MATLAB codes print it: sum sqrt((gx^2 + gy^2) / 2) / ((H - 1)(W - 1)) of one HxW uint8 image.

    The same gradients as :func:`average_gradient`, but summed over HW pixels and divided by fewer, thus
    larger by HW / ((H-1)(W-1)). At least 2x2. Range 0 upward, higher is sharper, noise included. A
    constant image gives 0.
    """
    require_luma(2, image=image)
    height, width = image.shape
    return average_gradient(image) * float(height * width) / float((height - 1) * (width - 1))


def _signed_edges(image: Luma8) -> tuple[Real, Real]:
    """Sobel/8 strength and orientation by atan (0 where flat), border mirrored without repeating it."""
    pixels = image.astype(np.float64)
    gx: Real = cv2.Sobel(pixels, cv2.CV_64F, 1, 0, ksize=3, scale=0.125, borderType=cv2.BORDER_REFLECT_101)
    gy: Real = cv2.Sobel(pixels, cv2.CV_64F, 0, 1, ksize=3, scale=0.125, borderType=cv2.BORDER_REFLECT_101)
    flat = gx == 0
    steep = np.where(gy == 0, 0.0, np.copysign(np.pi / 2.0, gy))
    return np.sqrt(gx * gx + gy * gy), np.where(flat, steep, np.arctan(gy / np.where(flat, 1.0, gx)))


def nabf(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """N^AB/F: artifacts, edges that fusion made stronger than either source's, of HxW uint8 images.

    N = sum AM ((1 - Q_IR) w_IR + (1 - Q_VIS) w_VIS) / sum(w_IR + w_VIS), AM = 1 where the fused Sobel/8
    strength exceeds both sources'; Q = sqrt(Q_g Q_a), Q_g = .9999 / (1 + exp(-19 (ratio - .5))),
    Q_a = .9995 / (1 + exp(-22 (agreement - .5))), agreement = | |a - a_F| - pi/2 | 2/pi with atan
    orientations; w = g^1.5 where g >= 2, else .001. Range 0..1, lower is better. Constant or identical
    images give 0. Source: Shreyamsha Kumar, "Multifocus and multispectral image fusion based on pixel
    significance using discrete cosine harmonic wavelet transform", SIViP 7, 2013, after Petrovic, Xydeas.
    """
    require_luma(ir=ir, vis=vis, fused=fused)
    (g_i, a_i), (g_v, a_v), (g_f, a_f) = (_signed_edges(image) for image in (ir, vis, fused))
    artifact = (g_f > g_i) & (g_f > g_v)
    lost, weights = 0.0, 0.0
    for g_s, a_s in ((g_i, a_i), (g_v, a_v)):
        weight = np.where(g_s >= 2.0, g_s**1.5, 0.001)
        weights += float(np.sum(weight))
        # artifacts are a few per cent of the pixels, and have g_f > g_s: the ratio needs no case
        s, f = g_s[artifact], g_f[artifact]
        agreement = np.abs(np.abs(a_s[artifact] - a_f[artifact]) - np.pi / 2.0) * (2.0 / np.pi)
        q_strength = 0.9999 / (1.0 + np.exp(-19.0 * (s / f - 0.5)))
        q_angle = 0.9995 / (1.0 + np.exp(-22.0 * (agreement - 0.5)))
        lost += float(np.sum((1.0 - np.sqrt(q_strength * q_angle)) * weight[artifact]))
    return lost / weights
