"""The noise of an image is measured beside texture, and smoothing that fits leaves edges."""

import cv2
import numpy as np
import pytest

from fusepipe.core.noise import measured_noise, without_noise

X, Y = np.meshgrid(np.arange(160.0), np.arange(128.0))
SCENE = 60 + 0.5 * X + 20 * np.sin(Y / 9) + 60.0 * (((X - 80) ** 2 + (Y - 60) ** 2) < 30**2)


def image(noise, dtype=np.uint8, scale=1.0):
    values = (SCENE + np.random.default_rng(3).normal(0, noise, SCENE.shape)) * scale
    return np.rint(values).clip(0, np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("noise", [2.0, 5.0, 10.0])
@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1.0), (np.uint16, 40.0)])
def test_noise_is_measured_in_the_units_of_the_image(noise, dtype, scale):
    assert measured_noise(image(noise, dtype, scale)) == pytest.approx(noise * scale, rel=0.15)


def test_texture_black_and_white_and_small_images_are_no_noise():
    textured = image(0.0)
    textured[:, 64:] = np.where((X // 2 + Y // 2) % 2, 200, 60)[:, 64:]  # three fifths of the image
    assert measured_noise(textured) < 1.0
    night = image(6.0)
    night[:100] = np.where(night[:100] > 0, 2, 0)  # clipped: what noise it had is not in it
    assert measured_noise(night) == pytest.approx(6.0, rel=0.25)
    assert measured_noise(image(9.0)[:20, :20]) == 0.0


@pytest.mark.data
@pytest.mark.parametrize("name", ["tno/pairs", "msrs", "llvip", "m3fd", "kaist"])
def test_images_of_data_sets_are_clean(name, data_dir):
    paths = sorted(path for band in ("ir", "vis") for path in (data_dir / name / band).iterdir())[::9]
    noise = [measured_noise(np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)) for path in paths]
    assert len(noise) >= 2 and max(noise) < 4.0


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1.0), (np.uint16, 40.0)])
def test_smoothing_takes_noise_and_leaves_edges(dtype, scale):
    noisy = image(6.0, dtype, scale)
    smooth = without_noise(noisy, 6.0 * scale)
    assert smooth.dtype == dtype and smooth.shape == noisy.shape
    clean = np.rint(SCENE * scale)
    before, after = (
        np.sqrt(((one - clean) ** 2).mean()) / scale for one in (noisy.astype(float), smooth.astype(float))
    )
    assert after < 0.55 * before
    edge = np.abs(np.sqrt((X - 80) ** 2 + (Y - 60) ** 2) - 30) < 3
    assert np.abs(smooth - clean)[edge].mean() / scale < 6.0  # of a step of 60
