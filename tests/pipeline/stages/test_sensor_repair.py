"""Sensor repair: stripes, shading and dead pixels go, the scene stays."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from fusepipe.core.frames import Band, Frame, FramePair, PairState, Plane
from fusepipe.core.units import MS
from fusepipe.pipeline.stages.sensor_repair import RepairSettings, SensorRepair, shading_of

X, Y = np.meshgrid(np.arange(160.0), np.arange(120.0))
RANDOM = np.random.default_rng(5)
COLUMNS, ROWS = RANDOM.uniform(-12, 12, 160), RANDOM.uniform(-12, 12, 120)
SHADING = -200 * ((X / 80 - 1) ** 2 + (Y / 60 - 1) ** 2)


def scene(index):
    values = 7000 + 100 * np.sin((X + 7 * index) / 25) + 80 * np.cos((Y + 4 * index) / 20)
    return values + 500 * (np.hypot(X - 60 - 3 * index, Y - 60) < 12)


def pair(values, index=0, depth=14):
    counts = (values + np.random.default_rng(index).normal(0, 3, values.shape)).clip(0, (1 << depth) - 1)
    frame = Frame(Band.INFRARED, (Plane(counts.astype(np.uint16), depth),), index, index * 200 * MS, 0, Fraction(1, 5))
    return FramePair(index, PairState.SINGLE, Band.INFRARED, frame, None)


def error_after(settings, defects, count=12):
    """What is wrong with the last image, before and after, apart from its mean: standard deviations."""
    repair = SensorRepair(settings, pytest.fail)
    for index in range(count):
        made = pair(scene(index) + defects, index)
        out = repair(made).infrared.luma
    assert (out.bit_depth, out.pixels.dtype) == (14, np.uint16)
    truth = scene(count - 1)
    return tuple(float((p.astype(float) - truth).std()) for p in (made.infrared.luma.pixels, out.pixels))


@pytest.mark.parametrize(
    ("settings", "defects"),
    [
        (RepairSettings(columns=True), COLUMNS[None, :]),
        (RepairSettings(rows=True), ROWS[:, None]),
        (RepairSettings(columns=True, rows=True), COLUMNS[None, :] + ROWS[:, None]),
    ],
    ids=["columns", "rows", "both"],
)
def test_stripes_are_removed_and_the_scene_is_not(settings, defects):
    before, after = error_after(settings, defects)
    assert before > 6.5 and after < 5
    without, kept = error_after(settings, np.zeros((1, 1)))
    assert kept < without + 2.0  # counts; the noise is 3


def test_an_upright_object_is_no_stripe():
    post = 60.0 * (np.abs(X - 80) < 3)
    _, after = error_after(RepairSettings(columns=True), post * 0)
    repair = SensorRepair(RepairSettings(columns=True), pytest.fail)
    out = repair(pair(7000 + post)).infrared.luma.pixels.astype(float)
    assert out[:, 79:81].mean() - out[:, 60:70].mean() > 50 and after < 6


def test_the_shading_of_a_flat_field_is_subtracted():
    flat = (9000 + SHADING + RANDOM.normal(0, 3, X.shape)).astype(np.uint16)
    flat[7, 9] = 0  # a dead pixel
    before, after = error_after(RepairSettings(shading=shading_of(flat)), SHADING)
    assert before > 80 and after < 10


def test_a_flat_field_of_another_size_is_reported_and_left_out():
    said = []
    repair = SensorRepair(RepairSettings(shading=np.ones((10, 10), np.float32)), said.append)
    for index in range(2):
        made = pair(scene(index), index)
        assert np.array_equal(repair(made).infrared.luma.pixels, made.infrared.luma.pixels)
    assert said == ["infrared: repair.shading is of 10x10, the images are 160x120: not applied"]


def test_a_flat_field_of_another_depth_is_reported_and_left_out():
    said = []
    repair = SensorRepair(RepairSettings(shading=np.ones((120, 160), np.float32), shading_bytes=1), said.append)
    made = pair(scene(0))
    assert np.array_equal(repair(made).infrared.luma.pixels, made.infrared.luma.pixels)
    assert said == ["infrared: repair.shading is of 8-bit counts, the images of 16-bit ones: not applied"]


def test_dead_pixels_are_filled_and_counts_stay_in_their_depth():
    values = scene(0)
    values[5, 5], values[50, 70] = 0, 16383
    high = RepairSettings(find_dead=True, shading=np.full((120, 160), -16000, np.float32))
    repair = SensorRepair(high, pytest.fail)
    assert repair(pair(values)).infrared.luma.pixels.max() == 16383
    repair = SensorRepair(RepairSettings(find_dead=True), pytest.fail)
    out = repair(pair(values)).infrared.luma.pixels
    assert repair.dead_pixels == 2 and abs(int(out[5, 5]) - int(out[5, 7])) < 60 and out.max() < 8000


def test_a_frame_that_is_used_again_and_a_pair_without_infrared_are_cheap():
    repair = SensorRepair(RepairSettings(columns=True), pytest.fail)
    made = pair(scene(0))
    assert repair(made).infrared is repair(made).infrared
    visible = Frame(Band.VISIBLE, (Plane(np.zeros((4, 4), np.uint8)),), 0, 0, 0, Fraction(1, 5))
    alone = FramePair(0, PairState.SINGLE, Band.VISIBLE, None, visible)
    assert repair(alone) is alone


@pytest.mark.parametrize("order", [(14, 8), (8, 14)])
def test_another_bit_depth_starts_again(order):
    repair = SensorRepair(RepairSettings(columns=True, find_dead=True), pytest.fail)
    for index, depth in enumerate(order):
        made = pair(scene(index) + COLUMNS[None, :], index)
        counts = made.infrared.luma
        if depth == 8:
            counts = Plane((counts.pixels >> 6).astype(np.uint8))
        out = repair(replace(made, infrared=replace(made.infrared, planes=(counts,)))).infrared.luma
        assert (out.bit_depth, out.pixels.dtype) == (counts.bit_depth, counts.pixels.dtype)
        assert np.abs(out.pixels.astype(float) - counts.pixels).mean() < 12


def test_another_image_size_starts_again():
    repair = SensorRepair(RepairSettings(columns=True, find_dead=True), pytest.fail)
    repair(pair(scene(0)))
    smaller = cv2.resize(scene(1), (80, 60))
    assert repair(pair(smaller, 1)).infrared.luma.pixels.shape == (60, 80)
