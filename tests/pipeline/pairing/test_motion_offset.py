"""The offset between two cameras from motion energy, on scenes whose truth is known."""

import math
import random

import numpy as np
import pytest

from fusepipe.core.frames import Band
from fusepipe.pipeline.pairing.motion_offset import (
    MotionEnergy,
    estimate_offset,
    estimate_skew,
    offset_by_cells,
    repeats_frames,
)
from fusepipe.pipeline.testing import frame
from tests.helpers.walkers import NARROW, walkers

MS = 1_000_000
S = 1000 * MS


def energy(seed, *, offset_ms=0.0, fps=25.0, seconds=30, gain=1.0):
    """Motion that comes and goes, seen by a camera whose clock is ``offset_ms`` ahead, with noise of its own."""
    scene, own = random.Random(seed), random.Random(f"{seed} {offset_ms} {fps}")
    bursts = [(scene.uniform(0, seconds), scene.uniform(0.2, 1.0), scene.uniform(2, 9)) for _ in range(seconds // 2)]
    samples = []
    for index in range(round(seconds * fps)):
        t = index / fps
        moved = sum(height * math.exp(-(((t - at) / width) ** 2)) for at, width, height in bursts)
        samples.append((round((t * 1000 + offset_ms) * MS), gain * (0.5 + moved) + own.gauss(0, 0.1)))
    return samples


@pytest.mark.parametrize(("offset_ms", "fps"), [(0, 25), (-130, 25), (480, 9), (1400, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_the_offset_is_found_within_less_than_a_frame(seed, offset_ms, fps):
    found = estimate_offset(energy(seed, offset_ms=offset_ms, fps=fps, gain=0.3), energy(seed))
    assert found.trusted and abs(found.offset_ns / MS + offset_ms) < 25, found


def test_the_uncertainty_bounds_the_error_and_decides_what_is_sure():
    within, sure = 0, []
    for seed in range(8):
        for seconds in (6, 30):
            found = estimate_offset(energy(seed, offset_ms=480, fps=9, seconds=seconds), energy(seed, seconds=seconds))
            if found.sure:
                sure.append(seconds)
                within += abs(found.offset_ns / MS + 480) <= found.uncertainty_ns / MS
    assert sure.count(30) == 8 > sure.count(6), "a few seconds seldom tell"
    assert within >= 0.9 * len(sure)
    assert 1 < found.uncertainty_ns / MS < 40


@pytest.mark.parametrize("seed", range(5))
def test_different_scenes_give_no_offset(seed):
    found = estimate_offset(energy(seed), energy(seed + 100))
    assert not found.trusted and not found.sure


def test_too_little_gives_none():
    assert estimate_offset([], energy(0)) is None
    assert estimate_offset(energy(0, seconds=4), energy(0, seconds=4)) is None
    still = [(i * 40 * MS, 0.0) for i in range(500)]
    assert not estimate_offset(still, still).trusted


def camera(readout_ms, *, seed=0, ahead_ms=0.0):
    """A camera that reads its rows one after another, before motion that comes and goes."""
    seen = MotionEnergy()
    parts = ((seen.top, 0.2), (seen.samples, 0.5), (seen.bottom, 0.8))
    for samples, middle in parts:
        # motion in a row that is read later is in an earlier frame
        samples += energy(seed, offset_ms=ahead_ms - middle * readout_ms)
    return seen


@pytest.mark.parametrize(("infrared_ms", "visible_ms"), [(0, 30), (25, 0), (10, 10)])
def test_the_difference_of_rolling_shutters_is_found(infrared_ms, visible_ms):
    found = estimate_skew(camera(infrared_ms, ahead_ms=70.0), camera(visible_ms))
    assert found is not None and abs(found.skew_ns / MS - (visible_ms - infrared_ms)) < 8, found


def test_rolling_shutters_need_motion_in_both_parts():
    visible = camera(20)
    visible.bottom = [(t, 0.0) for t, _ in visible.bottom]
    assert estimate_skew(camera(0), visible) is None


def test_rolling_shutters_are_not_told_from_images_that_tell_no_offset():
    visible = camera(30)
    visible.samples = energy(100)
    assert estimate_skew(camera(0), visible) is None


@pytest.mark.parametrize(("late_ms", "view", "repeats"), [(80, None, 1), (400, NARROW, 1), (-600, None, 2)])
def test_motion_without_a_pause_is_told_by_where_it_is(late_ms, view, repeats):
    infrared, visible = walkers(1, late_ms=late_ms, view=view), walkers(1, repeats=repeats)
    assert [repeats_frames(seen.samples) for seen in (infrared, visible)] == [False, repeats == 2]
    whole = estimate_offset(infrared.samples, visible.samples)
    found = offset_by_cells(infrared, visible, np.eye(3) if view is None else view)
    assert not whole.sure and found.sure, (whole, found)
    assert abs(found.offset_ns / MS - late_ms) < 8, found
    half_ms = 20 * repeats
    assert half_ms < found.uncertainty_ns / MS < half_ms + 10, "half of the time for which a frame is shown, and more"


def test_repeated_frames_are_seen_through_noise_and_a_moving_scene_has_none():
    rng = random.Random(4)
    moving = [(index * 40 * MS, rng.uniform(0.5, 9)) for index in range(200)]
    still = [(index * 40 * MS, rng.gauss(1, 0.1)) for index in range(200)]
    doubled = [(t, energy if index % 2 else 0.4 * min(energy, 2) + 0.1) for index, (t, energy) in enumerate(moving)]
    assert repeats_frames(doubled)
    assert not repeats_frames(moving) and not repeats_frames(still) and not repeats_frames([])


@pytest.mark.parametrize("seed", range(2, 5))
def test_the_walks_of_other_scenes_give_no_offset(seed):
    assert not offset_by_cells(walkers(1), walkers(seed), np.eye(3)).sure


def test_cells_of_a_view_that_is_nowhere_in_the_other_are_too_few():
    beside = np.array([[1.0, 0.0, 0.95], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert offset_by_cells(walkers(1), walkers(1), beside) is None


def test_the_parts_of_an_image_have_their_own_energy():
    seen = MotionEnergy()
    for index in range(2):
        image = np.zeros((48, 64), np.uint8)
        image[:24, 32:] = 100 * index
        seen.push(frame(Band.INFRARED, index, index * 40 * MS, pixels=image))
    (fine,) = seen.fine
    assert fine.shape == (24, 32) and fine[:11, 17:].min() == 100 and fine[13:].max() == 0 and fine[:, :15].max() == 0
