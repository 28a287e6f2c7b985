"""Noise reduction: only noisy cameras, only what is fused, counts that are recorded as they were."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from fusepipe.core.frames import Band, Frame, FramePair, Original, PairState, Plane
from fusepipe.core.units import S
from fusepipe.pipeline.stages.denoising import Denoising, NoiseReduction

SHAPE = (96, 128)
X, Y = np.meshgrid(np.arange(128.0), np.arange(96.0))
SCENE = 60 + X / 2 + 30 * ((X // 40 + Y // 40) % 2)


def frame(band, noise, second=0.0, depth=8, index=0):
    scale = 1.0 if depth == 8 else 20.0
    values = (SCENE + np.random.default_rng(index).normal(0, noise, SHAPE)) * scale + (0 if depth == 8 else 7000)
    pixels = np.rint(values).clip(0, (1 << depth) - 1).astype(np.uint8 if depth == 8 else np.uint16)
    chroma = Plane(np.full((48, 64), 128, np.uint8))
    planes = (Plane(pixels, depth), *((chroma, chroma) if band is Band.VISIBLE else ()))
    at_ns = round(second * S)
    return Frame(band, planes, index, at_ns, at_ns, Fraction(1, 1000))


def reduction(band=Band.INFRARED):
    notes: list[str] = []
    return NoiseReduction(band, notes.append), notes


@pytest.mark.parametrize("depth", [8, 14])
def test_a_clean_camera_keeps_its_frames_and_a_noisy_one_is_smoothed(depth):
    quiet, notes = reduction()
    clean = frame(Band.INFRARED, 1.5, depth=depth)
    assert quiet(clean) is clean and notes == []
    quiet, notes = reduction()
    noisy = frame(Band.INFRARED, 8.0, depth=depth)
    smooth = quiet(noisy)
    assert smooth.luma.bit_depth == depth and smooth.luma.pixels.dtype == noisy.luma.pixels.dtype
    rough = [float(np.abs(np.diff(one.luma.pixels.astype(float), axis=1)).mean()) for one in (smooth, noisy)]
    assert rough[0] < 0.6 * rough[1]
    assert len(notes) == 1 and notes[0].startswith("infrared: noise of ")
    assert quiet(noisy) is smooth  # used again, as of a held pair


def test_it_is_measured_once_a_second_and_does_not_switch_at_a_limit():
    quiet, notes = reduction()
    bright = frame(Band.INFRARED, 1.5)
    assert quiet(bright) is bright
    early = frame(Band.INFRARED, 9.0, 0.5, index=1)
    assert quiet(early) is early  # not yet measured
    frozen = replace(frame(Band.INFRARED, 9.0, 1.2, index=2), original=Original(1, S // 2))
    assert quiet(frozen) is frozen
    at = [frame(Band.INFRARED, 9.0, 2.0 + second, index=3 + second) for second in range(6)]
    on = [quiet(one) is not one for one in at]
    assert not on[0] and on[-1] and on == sorted(on)
    less = [frame(Band.INFRARED, 3.6, 9.0 + second, index=20 + second) for second in range(12)]
    assert all(quiet(one) is not one for one in less)  # below the level at which it begins
    assert len(notes) == 1


def test_the_pair_keeps_the_counts_of_the_infrared_camera():
    seen: list[FramePair] = []

    def registration(pair):
        seen.append(pair)
        return replace(pair, registered=pair.infrared.luma)

    infrared, visible = frame(Band.INFRARED, 8.0, depth=14), frame(Band.VISIBLE, 8.0)
    pair = FramePair(0, PairState.FUSED, Band.VISIBLE, infrared, visible)
    done = Denoising(registration, reduction()[0], reduction(Band.VISIBLE)[0])(pair)
    assert done.infrared is infrared and done.registered is seen[0].infrared.luma is not infrared.luma
    assert done.visible is seen[0].visible is not visible and done.visible.chroma == visible.chroma
    alone = Denoising(registration, None, reduction(Band.VISIBLE)[0])(replace(pair, visible=None))
    assert alone.infrared is infrared and seen[1].infrared is infrared
