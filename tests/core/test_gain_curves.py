"""Gain curves: sensible for every scene, whatever its counts, hot spots and dead pixels."""

import numpy as np
import pytest

from fusepipe.core.gain_curves import BLACK, BODY, NOISE_SPAN, WHITE, curve_of, noise_of, sample_counts

RNG = np.random.default_rng(3)
X, Y = np.meshgrid(np.arange(160.0), np.arange(120.0))
SCENE = 7000 + 200 * np.sin(X / 20) + 150 * np.cos(Y / 15)


def counts(values, noise=0.0):
    return np.clip(values + RNG.normal(0, noise, values.shape), 0, 65535).astype(np.uint16)


def luma(pixels, kind="linear", region=None):
    depth, size = (16, 65536) if pixels.dtype == np.uint16 else (8, 256)
    return curve_of(sample_counts(pixels, depth, region), kind, size)[pixels]


@pytest.mark.parametrize("kind", ["linear", "plateau"])
def test_a_sliver_of_the_counts_fills_the_range_and_keeps_its_order(kind):
    pixels = counts(SCENE)
    shown = luma(pixels, kind)
    assert shown.min() < 20 and shown.max() > 225 and shown.std() > 40
    order = np.argsort(pixels.ravel())
    assert np.all(np.diff(shown.ravel()[order]) >= 0)


@pytest.mark.parametrize("kind", ["linear", "plateau"])
@pytest.mark.parametrize("value", [0, 1, 7000, 65534, 65535])
def test_a_constant_image_is_plain(kind, value):
    shown = luma(np.full((60, 80), value, np.uint16), kind)
    assert np.ptp(shown) == 0
    assert 100 < shown[0, 0] < 150


@pytest.mark.parametrize("kind", ["linear", "plateau"])
def test_noise_alone_is_not_stretched_over_the_range(kind):
    pixels = counts(np.full((120, 160), 7000.0), noise=5.0)
    assert luma(pixels, kind).std() < 255 / NOISE_SPAN * 1.2
    assert sample_counts(pixels, 16).flat


@pytest.mark.parametrize("kind", ["linear", "plateau"])
def test_dead_pixels_and_one_spot_of_1000_kelvin_change_nothing_else(kind):
    plain = counts(SCENE, noise=2.0)
    hurt = plain.copy()
    hurt[::10, ::10], hurt[5::10, ::10] = 0, 65535
    hurt[50:53, 60:63] = 60000
    unhurt = hurt == plain
    assert np.abs(luma(hurt, kind) - luma(plain, kind))[unhurt].max() < 4
    assert luma(hurt, kind)[51, 61] > 250


def test_a_saturated_area_is_white_and_the_rest_keeps_its_contrast():
    pixels = counts(SCENE)
    pixels[:60] = 16383
    shown = curve_of(sample_counts(pixels, 14), "linear", 65536)[pixels]
    assert shown[:60].min() > 250 and np.ptp(shown[60:]) > 200


@pytest.mark.parametrize("ceiling", [4095, 16383, 65535])
def test_an_area_that_a_camera_of_fewer_bits_saturates_is_white_too_in_16_bits(ceiling):
    pixels = counts(SCENE - 4500)
    pixels[:60] = ceiling
    shown = curve_of(sample_counts(pixels, 16), "linear", 65536)[pixels]
    assert shown[:60].min() > 240 and np.ptp(shown[60:]) > 200


def test_hot_objects_leave_the_bulk_of_the_scene_its_levels():
    pixels = counts(SCENE, noise=2.0)
    pixels[40:60, 40:80] = 14000  # 4% of the image
    shown = luma(pixels)
    assert np.percentile(shown[80:], 99) > BODY - 15 and np.percentile(shown[80:], 1) < 60
    assert shown[50, 60] == pytest.approx(WHITE, abs=1)
    straight = (pixels.astype(float) - 6650) * 255 / (14000 - 6650)
    assert np.percentile(straight[80:], 99) < 30  # what a straight line leaves it


def test_a_hot_object_stands_out_of_the_bulk_by_more_than_half_of_the_luma():
    pixels = counts(SCENE, noise=2.0)
    pixels[40:60, 40:80] = 14000
    shown = luma(pixels)
    assert shown[50, 60] - np.percentile(shown[80:], 99) > 128
    assert np.ptp(shown[80:]) > 60  # which keeps its own contrast


def test_a_small_hot_object_has_room_too():
    pixels = counts(SCENE, noise=2.0)
    pixels[60:65, 80:85] = 7600  # 0.13% of the image, in front of what is warm
    shown = luma(pixels)
    assert shown[62, 82] - shown[66:70, 80:85].mean() > 100


def test_black_and_white_of_8_bits_belong_to_the_scene():
    pixels = np.clip(30 + (SCENE - 7000) / 3, 0, 255).astype(np.uint8)
    assert (pixels == 0).mean() > 0.2
    moved = (pixels * 4.0 + 3000).astype(np.uint16)  # the same image, with its lowest value elsewhere
    assert np.abs(luma(pixels) - luma(moved)).max() < 2


def test_the_region_is_what_is_measured():
    pixels = counts(SCENE)
    pixels[:60] = counts(2000 + SCENE[:60] / 100)  # a cold sky
    ground = luma(pixels, region=(0, 60, 160, 60))[60:]
    assert ground.min() == pytest.approx(BLACK, abs=6) and np.ptp(ground) > 200
    assert np.ptp(luma(pixels)[60:]) < 100
    outside = luma(pixels, region=(500, 500, 10, 10))  # of a smaller image: all of it
    assert np.array_equal(outside, luma(pixels))


def test_8_bit_images_have_curves_of_256_entries():
    pixels = (100 + (SCENE - 6650) / 20).astype(np.uint8)
    assert np.ptp(luma(pixels)) > 200


def test_the_noise_is_measured_beside_edges_and_dead_pixels():
    pixels = counts(np.where((X // 40 + Y // 40) % 2, 7000.0, 9000.0), noise=12.0)
    pixels[::20, ::7] = 0
    assert noise_of(pixels) == pytest.approx(12, rel=0.25)
    assert noise_of(pixels[:, :2]) == 0
