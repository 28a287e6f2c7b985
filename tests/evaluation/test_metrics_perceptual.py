"""MS-SSIM, VIFF, Nabf, FMI, Qcb, Qcv and PSNR: by hand, against slow transcriptions, and how they behave."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.metrics.feature_information import fmi
from fusepipe.evaluation.metrics.fidelity import viff
from fusepipe.evaluation.metrics.gradients import average_gradient_matlab, nabf
from fusepipe.evaluation.metrics.perceptual import qcb, qcv
from fusepipe.evaluation.metrics.similarity import ms_ssim, mse, psnr, ssim_with


def texture(height: int, width: int, seed: int, sigma: float = 1.5) -> Luma8:
    noise = np.random.default_rng(seed).normal(0.0, 1.0, (height, width))
    blurred = cv2.GaussianBlur(noise, (0, 0), sigma)
    return (128 + 45 * blurred / blurred.std()).clip(0, 255).astype(np.uint8)


# --- MSE and PSNR ------------------------------------------------------------------------------


def test_mse_and_psnr_by_hand() -> None:
    ir, vis, fused = (np.full((1, 2), level, np.uint8) for level in (10, 30, 20))
    assert mse(ir, vis, fused) == 100.0
    assert psnr(ir, vis, fused) == pytest.approx(20.0 * math.log10(25.5))
    # peak error against both: 0 dB
    assert psnr(ir * 0, vis * 0, np.full((1, 2), 255, np.uint8)) == 0.0
    assert psnr(ir, ir, ir) == math.inf


def test_the_mean_has_the_least_mse() -> None:
    ir, vis = texture(40, 50, 1), texture(40, 50, 2)
    mean = ((ir.astype(int) + vis + 1) // 2).astype(np.uint8)
    least = mse(ir, vis, mean)
    for other in (ir, vis, np.maximum(ir, vis), mean + 1):
        assert mse(ir, vis, other) > least


# --- AG ----------------------------------------------------------------------------------------


def test_average_gradient_of_matlab_by_hand() -> None:
    y, x = np.mgrid[0:5, 0:6]
    plane = (3 * x + 4 * y).astype(np.uint8)
    assert average_gradient_matlab(plane) == pytest.approx(math.sqrt(12.5) * 30 / 20)


# --- MS-SSIM -----------------------------------------------------------------------------------


def test_ms_ssim_of_shifted_levels_is_the_coarsest_luminance_term() -> None:
    """A constant added leaves every structure term 1; l of flat images is known in closed form."""
    a, b = np.full((161, 170), 100, np.uint8), np.full((161, 170), 120, np.uint8)
    c1 = (0.01 * 255) ** 2
    luminance = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert ms_ssim(a, a, b) == pytest.approx(luminance**0.1333, rel=1e-12)


def test_ms_ssim_forgives_fine_noise_more_than_ssim_and_blur_less_at_coarse_scales() -> None:
    image = texture(200, 220, 3, sigma=6.0)
    noise = np.random.default_rng(0).normal(0, 20, image.shape)
    noisy = (image + noise).clip(0, 255).astype(np.uint8)
    assert ssim_with(image, noisy) + 0.2 < ms_ssim(image, image, noisy) < 1.0
    # an inverted image correlates negatively: counts as nothing, never as a complex number
    assert ms_ssim(image, image, 255 - image) == 0.0


# --- VIFF --------------------------------------------------------------------------------------


def test_viff_by_hand_on_one_gain() -> None:
    """F = half of both sources about 128: gain 1/2 everywhere, so kept = log(1 + v/4 / n), total log(1 + v/n)."""
    rng = np.random.default_rng(5)
    image = (2 * rng.integers(0, 128, (64, 64))).astype(np.uint8)
    half = (image // 2 + 64).astype(np.uint8)
    value = viff(image, image, half)
    # white noise of variance 5461 under windows that average: between the limits of small and large variance
    assert 0.25 < value < 1.0
    assert viff(image, image, image) == pytest.approx(1.0, abs=1e-6)
    flat = np.full_like(image, 128)
    assert viff(image, image, flat) < 1e-5


def test_viff_takes_the_source_kept_worse() -> None:
    a, b = texture(80, 80, 1), texture(80, 80, 2)
    assert viff(a, b, a) < 0.5 < viff(a, a, a)


# --- Nabf --------------------------------------------------------------------------------------


def test_nabf_by_hand_on_one_artifact() -> None:
    """Flat sources, an edge of the fused image alone: everything of the small weights there is lost."""
    flat = np.full((9, 10), 50, np.uint8)
    fused = flat.copy()
    fused[:, 5:] = 150
    # columns 4 and 5 of ten have an edge; ratio 0, orientation equal: Q = sqrt(Qg Qa)
    q = math.sqrt(0.9999 / (1 + math.exp(9.5)) * 0.9995 / (1 + math.exp(-11)))
    assert nabf(flat, flat, fused) == pytest.approx(0.2 * (1 - q), rel=1e-9)
    assert nabf(fused, flat, fused) == 0.0, "no stronger than a source: no artifact"


def test_nabf_grows_with_noise() -> None:
    ir, vis = texture(60, 60, 1), texture(60, 60, 2)
    mean = ((ir.astype(int) + vis + 1) // 2).astype(np.uint8)
    noise = np.random.default_rng(1).normal(0, 1, ir.shape)
    values = [nabf(ir, vis, (mean + s * noise).clip(0, 255).astype(np.uint8)) for s in (0, 10, 30, 60)]
    assert values == sorted(values) and values[-1] > values[0] + 0.05


# --- FMI ---------------------------------------------------------------------------------------


def slow_fmi(ir: Luma8, vis: Luma8, fused: Luma8) -> float:
    """FMI written down window by window and cell by cell, as the paper defines it."""
    place = np.arange(1, 10)

    def feature(image: Luma8) -> np.ndarray:
        gy, gx = np.gradient(image.astype(float))
        return np.hypot(gx, gy)

    def entropy(x: np.ndarray) -> float:
        x = x[np.abs(x) > 1e-17]
        return float(-(x * np.log2(np.abs(x))).sum())

    def distribution(window: np.ndarray) -> np.ndarray:
        span = window.max() - window.min()
        p = (window - window.min()) / span if span else np.ones(9)
        return p / p.sum()

    def one(source: np.ndarray, target: np.ndarray) -> float:
        if (source == target).all():
            return 1.0
        p, q = distribution(source.T.ravel()), distribution(target.T.ravel())
        r = 0.0 if np.ptp(p) < 1e-15 or np.ptp(q) < 1e-15 else float(np.corrcoef(p, q)[0, 1])
        cdf_p, cdf_q = np.cumsum(p), np.cumsum(q)
        upper = np.minimum.outer(cdf_p, cdf_q)
        lower = np.maximum(np.add.outer(cdf_p, cdf_q) - 1, 0)
        bound = upper if r >= 0 else lower
        spread_p, spread_q = (math.sqrt(max((place**2 * x).sum() - (place * x).sum() ** 2, 0)) for x in (p, q))
        covariance = (bound - np.outer(cdf_p, cdf_q)).sum()
        theta = r * spread_p * spread_q / covariance if abs(covariance) > 1e-12 else 0.0
        framed = np.pad(bound, ((1, 0), (1, 0)))
        mass = framed[1:, 1:] - framed[:-1, 1:] - framed[1:, :-1] + framed[:-1, :-1]
        joint = theta * mass + (1 - theta) * np.outer(p, q)
        marginal = entropy(p) + entropy(q)
        return 2 * (marginal - entropy(joint)) / marginal if marginal > 1e-12 else 0.0

    features = [feature(image) for image in (ir, vis, fused)]
    values = []
    for y in range(ir.shape[0] - 2):
        for x in range(ir.shape[1] - 2):
            a, b, f = (g[y : y + 3, x : x + 3] for g in features)
            values.append((one(a, f) + one(b, f)) / 2)
    return float(np.mean(values))


@pytest.mark.parametrize("seed", [0, 1])
def test_fmi_is_its_definition(seed: int) -> None:
    ir, vis = texture(14, 19, seed), texture(14, 19, seed + 9)
    vis[:6, :8] = 90  # flat windows
    for fused in (np.maximum(ir, vis), ((ir.astype(int) + vis) // 2).astype(np.uint8), 255 - ir):
        assert fmi(ir, vis, fused) == pytest.approx(slow_fmi(ir, vis, fused), rel=1e-9)


def test_fmi_of_a_source_and_of_noise() -> None:
    ir, vis = texture(50, 60, 1), texture(50, 60, 2)
    noise = np.random.default_rng(0).integers(0, 256, ir.shape, np.uint8)
    assert fmi(ir, ir, ir) == 1.0
    assert fmi(ir, vis, ir) > 0.5 > fmi(ir, vis, noise)
    assert fmi(ir, vis, ir, "pixel") > 0.5
    with pytest.raises(UsageError, match="unknown feature 'edge'; known: gradient, pixel"):
        fmi(ir, vis, ir, "edge")  # type: ignore[arg-type]


# --- Qcb and Qcv -------------------------------------------------------------------------------


def test_stretching_makes_gain_and_offset_free() -> None:
    """Each image is stretched to 0..255 first: whole gains and offsets of any image change nothing."""
    base = [np.linspace(0, 100, 64 * 80).round().reshape(64, 80).astype(np.uint8)]
    base += [texture(64, 80, n) // 3 for n in (1, 2)]
    for function in (qcb, qcv):
        value = function(*base)
        moved = [image * 2 + 30 for image in base]
        assert function(*moved) == pytest.approx(value, rel=1e-9)


def test_qcb_and_qcv_by_behaviour() -> None:
    ir, vis = texture(96, 112, 1), texture(96, 112, 2)
    mean = ((ir.astype(int) + vis + 1) // 2).astype(np.uint8)
    blurred = cv2.GaussianBlur(mean, (0, 0), 3.0)
    noise = np.random.default_rng(0).integers(0, 256, ir.shape, np.uint8)
    assert qcb(ir, ir, ir) == 1.0 and qcv(ir, ir, ir) == 0.0
    assert qcb(ir, vis, mean) > qcb(ir, vis, noise)
    assert qcv(ir, vis, mean) < qcv(ir, vis, blurred) < qcv(ir, vis, 255 - mean)


def test_qcv_by_hand_on_flat_images() -> None:
    """Sources without edges inside: a grating over one period a region, seen through the filter at its r."""
    x = np.arange(64)
    wave = np.cos(2 * np.pi * x / 16)
    fused = np.tile((127.5 + 127.5 * wave).round(), (64, 1)).astype(np.uint8)
    flat = np.zeros((64, 64), np.uint8)
    r = 2 * (1 / 16) * 64 / 8
    gain, gain_0 = (2.6 * (0.0192 + 0.144 * f) * math.exp(-((0.144 * f) ** 1.1)) for f in (r, 0.0))
    expected = (127.5 * gain) ** 2 / 2 + (127.5 * gain_0) ** 2
    assert qcv(flat, flat, fused) == pytest.approx(expected, rel=2e-2)
