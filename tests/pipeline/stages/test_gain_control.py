"""Gain control over time: no flicker when hot objects enter, no pumping at flat-field corrections, cuts at once."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from fusepipe.core.frames import Band, Frame, Original, Plane
from fusepipe.core.units import S
from fusepipe.pipeline.stages.gain_control import GainControl, GainSettings

FPS = 10
X, Y = np.meshgrid(np.arange(80.0), np.arange(60.0))
SCENE = 7000 + 200 * np.sin(X / 10) + 150 * np.cos(Y / 8)
BACKGROUND = (slice(46, 60), slice(0, 80))


def image(index, values=SCENE, hot=0, noise=4.0):
    """Counts of 14 bits; a square of ``hot`` pixels a side is 5,000 counts hotter."""
    random = np.random.default_rng(index)
    pixels = values + random.normal(0, noise, values.shape)
    pixels[5 : 5 + hot, 5 : 5 + hot] += 5000
    return pixels.clip(0, 16383).astype(np.uint16)


def frame(index, pixels):
    plane = Plane(pixels, 14 if pixels.dtype == np.uint16 else 8)
    return Frame(Band.INFRARED, (plane,), index, index * S // FPS, index, Fraction(1, FPS))


def run(control, images, start=0):
    shown = []
    for index, pixels in enumerate(images, start):
        one = frame(index, pixels)
        control.update(one)
        shown.append(control.apply(one.luma).astype(float))
    return np.array(shown)


def fastest(background):
    """The largest change of the background's mean luma within a second."""
    means = np.array([one[BACKGROUND].mean() for one in background])
    return max(abs(means[FPS:] - means[:-FPS]))


def stretched(pixels):
    """What a camera without memory shows: the 1st to the 99th percentile of each frame."""
    low, high = np.percentile(pixels, [1, 99])
    return np.clip((pixels - low) / (high - low) * 255, 0, 255)


@pytest.mark.parametrize("mode", ["linear", "plateau", "local"])
@pytest.mark.parametrize("side", [8, 24])  # 1.3% and 12% of the image
def test_a_hot_object_that_enters_and_leaves_moves_the_background_by_less_than_2_levels_a_second(mode, side):
    images = [image(i, hot=side if 20 <= i < 60 else 0) for i in range(90)]
    shown = run(GainControl(GainSettings(mode)), images)
    assert fastest(shown) < 2.0
    assert fastest([stretched(pixels) for pixels in images]) > 50.0
    assert shown[20][7, 7] > 250 > 200 > shown[20][BACKGROUND].mean()  # it is seen at once


def test_frozen_repeated_and_flat_images_change_nothing():
    control = GainControl(GainSettings())
    run(control, [image(i) for i in range(5)])
    before = control.apply(frame(0, image(0)).luma)
    hot = image(5, hot=40)
    control.update(replace(frame(5, hot), original=Original(4, 4 * S // FPS)))
    control.update(frame(4, hot))  # the partner of a held pair
    run(control, [np.full_like(hot, 7100 + i) for i in range(10)], start=6)  # the shutter
    assert np.array_equal(control.apply(frame(0, image(0)).luma), before)
    shown = run(control, [image(i) for i in range(16, 30)], start=16)
    assert fastest([before, *shown]) < 1.0


@pytest.mark.parametrize("mode", ["linear", "local"])
def test_a_run_that_begins_with_a_frozen_image_shows_it(mode):
    control = GainControl(GainSettings(mode))
    control.update(replace(frame(3, image(3)), original=Original(2, 2 * S // FPS)))
    frozen = control.apply(frame(3, image(3)).luma)
    assert frozen.std() > 30 and 90 < frozen.mean() < 160
    shown = run(control, [image(i) for i in range(4, 20)], start=4)
    assert fastest([frozen, *shown]) < 1.0


def test_a_shutter_that_stays_closed_is_a_new_scene():
    control = GainControl(GainSettings())
    run(control, [image(i) for i in range(5)])
    closed = [image(i, np.full_like(SCENE, 9000.0)) for i in range(60)]
    shown = run(control, closed, start=5)
    assert shown[0].mean() > 250 and shown[-1].mean() == pytest.approx(130, abs=15)


def test_another_scene_has_its_own_curve_at_once_and_a_drift_is_followed():
    control = GainControl(GainSettings())
    first = run(control, [image(i) for i in range(5)])[-1]
    cut = run(control, [image(5, SCENE + 4000)], start=5)[-1]
    assert np.abs(cut - first).mean() < 3
    drifted = run(control, [image(i, SCENE + 4000 + 5 * i) for i in range(6, 90)], start=6)[-1]
    assert 20 < drifted.mean() < 235 and drifted.std() > 40


def test_without_adapt_every_image_has_its_own_curve():
    own = run(GainControl(GainSettings(adapt_ns=0)), [image(0), image(1, SCENE * 1.02)])[-1]
    alone = run(GainControl(GainSettings()), [image(1, SCENE * 1.02)])[-1]
    damped = run(GainControl(GainSettings()), [image(0), image(1, SCENE * 1.02)])[-1]
    assert np.array_equal(own, alone) and not np.array_equal(damped, alone)


def test_a_gap_in_the_stream_is_no_reason_to_jump():
    control = GainControl(GainSettings())
    before = run(control, [image(0)])[-1]
    after = run(control, [image(1, hot=24)], start=600)[-1]
    assert np.abs(after - before)[BACKGROUND].mean() < 6  # noise alone changes it by about 4


def test_local_shows_more_detail_and_no_border_of_the_view():
    pixels = image(0, 7000 + 8 * Y, noise=0.0)
    texture = np.where((X // 2 + Y // 2) % 2, 10, -10).astype(np.int32)
    pixels = (pixels + texture).astype(np.uint16)
    view = np.zeros(pixels.shape, np.uint8)
    view[:, 30:] = 255
    seen = np.where(view, pixels, 0).astype(np.uint16)
    shown = {}
    for mode in ("linear", "local"):
        control = GainControl(GainSettings(mode))
        control.update(frame(0, pixels))
        shown[mode] = control.apply(Plane(seen, 14), view).astype(float)
    inner = (slice(20, 40), slice(50, 70))
    detail = {mode: np.abs(np.diff(one[inner], axis=1)).mean() for mode, one in shown.items()}
    assert detail["local"] > 1.4 * detail["linear"]
    border = (shown["local"] - shown["linear"])[:, 30:34]
    assert np.abs(border.mean()) < 8


@pytest.mark.parametrize("mode", ["linear", "plateau", "local"])
def test_8_bit_images_too(mode):
    pixels = (90 + (SCENE - 6650) / 30).astype(np.uint8)
    assert np.ptp(run(GainControl(GainSettings(mode)), [pixels])[0]) > 200


def test_a_camera_that_changes_its_bit_depth_has_another_curve_at_once():
    control = GainControl(GainSettings())
    run(control, [image(i) for i in range(3)])
    narrow = (90 + (SCENE - 6650) / 30).astype(np.uint8)
    soon = replace(frame(3, narrow), capture_ns=2 * S // FPS + 1)  # before the next measurement is due
    control.update(soon)
    assert np.ptp(control.apply(soon.luma)) > 200
    flat = np.full(SCENE.shape, 7000, np.uint16)
    assert np.ptp(run(control, [flat], start=4)[0]) == 0


def test_detail_is_the_difference_from_the_mean_around_it_at_any_offset_and_size():
    values = 7000 + 2000 * (X > 40) + np.where((X // 3 + Y // 3) % 2, 60, -60)
    random = np.random.default_rng(2)
    pixels = (values + random.normal(0, 2, values.shape)).astype(np.uint16)[:57, :79]  # no multiple of four
    control = GainControl(GainSettings("local"))
    control.update(frame(0, pixels))
    moved = np.roll(pixels, (2, 1), (0, 1))
    shown, other = control.apply(frame(0, pixels).luma), control.apply(frame(0, moved).luma)
    inner = slice(8, -8), slice(8, -8)
    apart = np.abs(np.roll(shown, (2, 1), (0, 1)).astype(int) - other)[inner]
    assert shown.shape == pixels.shape and apart.mean() < 2
