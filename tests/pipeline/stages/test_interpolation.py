"""Infrared images between two: moved along their motion, equal to each at its time, held where that is no guess."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from fusepipe.core.frames import Band, Between, Frame, FramePair, Original, PairState, Plane
from fusepipe.pipeline.stages.interpolation import Interpolation, image_between, motion_between

Y, X = np.mgrid[:120, :160]
TEXTURE = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 900, (120, 160)), (0, 0), 3)
DIS = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def scene(x, dtype=np.uint16):
    """A textured surface and a hot disc at (x, 60)."""
    counts = 8000 + TEXTURE + 1500 * ((X - x) ** 2 + (Y - 60) ** 2 < 100)
    blurred = cv2.GaussianBlur(counts, (0, 0), 1)
    return blurred.astype(np.uint16) if dtype == np.uint16 else (blurred / 50).clip(0, 255).astype(np.uint8)


def frame(pixels, index, **values):
    depth = 14 if pixels.dtype == np.uint16 else 8
    return Frame(Band.INFRARED, (Plane(pixels, depth),), index, index * 100, index, Fraction(1), **values)


def pair(before, following, share):
    return FramePair(0, PairState.INTERPOLATED, Band.VISIBLE, before, None, between=Between(following, share))


def centre(pixels):
    hot = pixels > 0.5 * (pixels.max() + np.median(pixels))
    return X[hot].mean()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_an_object_is_where_it_was_at_that_time(dtype, share):
    before, after, true = scene(70, dtype), scene(82, dtype), scene(70 + 12 * share, dtype)
    made = Interpolation()(pair(frame(before, 3), frame(after, 4), share)).infrared.luma.pixels
    assert made.dtype == dtype
    assert abs(centre(made) - (70 + 12 * share)) < 1.5, "of the 12 pixels that it moved"
    others = before, (1 - share) * before + share * after
    held, blended = (np.abs(true - image.astype(float)).mean() for image in others)
    assert np.abs(true - made.astype(float)).mean() < 0.7 * min(held, blended)


def test_each_image_is_unchanged_at_its_own_time():
    before, after = scene(70), scene(82)
    motion = motion_between(Plane(before, 14), Plane(after, 14), DIS)
    assert (image_between(before, after, motion, 0.0) == before).all()
    assert (image_between(before, after, motion, 1.0) == after).all()
    for share, near in ((0.002, before), (0.998, after)):
        assert np.abs(image_between(before, after, motion, share).astype(int) - near).max() < 40


def test_the_frame_says_that_it_was_not_captured():
    before, following = frame(scene(70), 3), frame(scene(82), 4)
    made = Interpolation()(pair(before, following, 0.25))
    assert made.state is PairState.INTERPOLATED and made.between is None
    assert made.infrared.capture_ns == 325 and made.infrared.original == Original(3, 300)


def test_a_hidden_or_far_moved_object_is_blended_where_it_stands():
    before, after = scene(20), scene(120)
    made = Interpolation()(pair(frame(before, 0), frame(after, 1), 0.5)).infrared.luma.pixels.astype(int)
    half = (before[60, 20].astype(int) + after[60, 20]) // 2
    assert abs(made[60, 20] - half) < 120 and made[60, 70] < 9000, "nothing is drawn where no image shows it"


@pytest.mark.parametrize("case", ["cut", "frozen", "other size", "other depth", "tiny"])
def test_what_has_no_motion_between_it_is_held(case):
    before, after = scene(70), scene(82)
    if case == "cut":
        after = np.random.default_rng(1).permutation(after.ravel()).reshape(after.shape)
    elif case == "frozen":
        after = before.copy()
    elif case == "other size":
        after = after[:100]
    elif case == "other depth":
        after = scene(82, np.uint8)
    else:
        before, after = before[:10, :10], after[:10, :10]
    first = frame(before, 0)
    made = Interpolation()(pair(first, frame(after, 1), 0.5))
    assert made.state is PairState.HELD and made.infrared is first and made.between is None


def test_other_pairs_pass_unchanged():
    plain = FramePair(0, PairState.FUSED, Band.VISIBLE, frame(scene(70), 0), None)
    assert Interpolation()(plain) is plain
