"""Levels: white stays white, round trips are exact, 16-bit counts map by a fixed range."""

import numpy as np
import pytest

from fusepipe.core import levels
from fusepipe.core.frames import Plane


def test_limited_to_full_and_back_is_exact_for_every_legal_code():
    codes = np.arange(16, 236, dtype=np.uint8)
    full = levels.luma_to_full()[codes]
    assert full[0] == 0 and full[-1] == 255
    assert np.array_equal(levels.luma_to_limited()[full], codes)


def test_full_to_limited_ends_are_black_and_white():
    assert levels.luma_to_limited()[[0, 255]].tolist() == [16, 235]
    assert levels.chroma_to_full()[[16, 128, 240]].tolist() == [1, 128, 255]  # 0.5 rounds up


def test_a_full_range_plane_is_not_copied():
    plane = Plane(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert np.shares_memory(levels.full_range_luma(plane), plane.pixels)


@pytest.mark.parametrize(
    ("counts", "count_range", "luma"),
    [
        ([0, 32768, 65535], None, [0, 128, 255]),
        ([999, 1000, 1500, 2000, 2001], (1000, 2000), [0, 0, 128, 255, 255]),
    ],
)
def test_16_bit_counts_map_by_the_range_and_never_by_the_frame(counts, count_range, luma):
    plane = Plane(np.array([counts], np.uint16), 16)
    assert levels.full_range_luma(plane, count_range).tolist() == [luma]


def test_bit_depth_gives_the_default_range():
    plane = Plane(np.array([[0, 1023]], np.uint16), 10)
    assert levels.full_range_luma(plane).tolist() == [[0, 255]]
    limited = Plane(np.array([[64, 940]], np.uint16), 10, "limited")
    assert levels.full_range_luma(limited).tolist() == [[0, 255]]


def test_an_8_bit_camera_may_have_a_range_too():
    plane = Plane(np.array([[50, 100, 150]], np.uint8))
    assert levels.full_range_luma(plane, (50, 150)).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.float32), np.zeros((0, 2), np.uint8)]
)
def test_a_plane_rejects_other_arrays(bad):
    with pytest.raises(ValueError, match="non-empty HxW"):
        Plane(bad)


def test_a_plane_is_read_only():
    plane = Plane(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        plane.pixels[0, 0] = 1
