"""Dead pixels: found while the scene moves, filled from living neighbours, never made of the scene."""

import numpy as np
import pytest

from fusepipe.core.frames import Plane
from fusepipe.pipeline.stages.dead_pixels import DeadPixelEstimate, DeadPixelFilling

X, Y = np.meshgrid(np.arange(64.0), np.arange(48.0))


def plane(index, defects=True):
    random = np.random.default_rng(index)
    values = 7000 + 150 * np.sin((X + 3 * index) / 9) + random.normal(0, 4, X.shape)
    values[20:23, 5 + index : 8 + index] += 600  # a small hot object that moves
    if defects:
        values[10, 10], values[30, 40] = 0, 16383
        values[40, 20] += 400  # a pixel that is too warm
    return Plane(values.clip(0, 16383).astype(np.uint16), 14)


def places(estimate):
    return sorted((int(i % 64), int(i // 64)) for i in estimate.places((48, 64)))


def test_stuck_pixels_are_found_in_the_first_image_and_warm_ones_over_time():
    estimate = DeadPixelEstimate((), find=True)
    assert estimate.update(plane(0)) and places(estimate) == [(10, 10), (40, 30)]
    for index in range(1, 20):
        estimate.update(plane(index))
    assert places(estimate) == [(10, 10), (20, 40), (40, 30)]
    for index in range(20, 40):
        estimate.update(plane(index % 20, defects=False))
    assert places(estimate) == []


def test_known_pixels_are_dead_and_those_outside_of_the_image_are_left_out():
    estimate = DeadPixelEstimate([(3, 4), (500, 4)], find=False)
    assert estimate.update(plane(0)) and places(estimate) == [(3, 4)]
    assert not estimate.update(plane(1))


def test_noise_without_a_scene_has_no_dead_pixels():
    estimate = DeadPixelEstimate((), find=True)
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 16384, (48, 64)).astype(np.uint16)
        estimate.update(Plane(noise, 14))
    assert places(estimate) == []


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_dead_pixels_and_clusters_get_the_value_of_living_neighbours(kind):
    pixels = np.full((12, 16), 100, kind)
    dead = [(0, 0), (15, 11), (5, 5), (6, 5), (5, 6), (6, 6)]
    for x, y in dead:
        pixels[y, x] = 0
    filling = DeadPixelFilling(np.array([y * 16 + x for x, y in dead]), pixels.shape)
    filled = filling.fill(pixels)
    assert (filled == 100).all() and filled.dtype == kind and pixels[0, 0] == 0
    untouched = DeadPixelFilling(np.array([], np.intp), pixels.shape)
    assert untouched.fill(pixels) is pixels
