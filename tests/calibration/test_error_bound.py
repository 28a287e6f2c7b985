"""The bound of a map's error grows with what makes maps wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fusepipe.calibration.scene.error_bound import ErrorBound, error_bound, view_points
from fusepipe.calibration.scene.local_matches import Matches

SIZE = (384, 288)
SEEN = np.ones((288, 384), np.float32)
Array = NDArray[np.float64]


def bound(
    displacement: Callable[[Array], Array], kept: Callable[[Array], NDArray[np.bool_]] | None = None
) -> ErrorBound:
    """Of blocks whose surfaces peak at given displacements, in a visible image 768 wide."""
    grid = np.arange(-8, 9)
    y, x = np.meshgrid(np.arange(24, 265, 24), np.arange(24, 361, 24), indexing="ij")
    centres = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)
    if kept is not None:
        centres = centres[kept(centres)]
    off = displacement(centres)
    surfaces = 0.5 * np.exp(
        -((grid[None, None] - off[:, 0, None, None]) ** 2 + (grid[None, :, None] - off[:, 1, None, None]) ** 2) / 5
    )
    found = error_bound(Matches(centres, surfaces.astype(np.float32), SIZE), SEEN, 768)
    assert found is not None
    return found


def test_it_grows_where_the_map_is_off() -> None:
    exact = bound(np.zeros_like)
    shifted = bound(lambda c: np.tile((1.5, 0.0), (len(c), 1)))
    assert exact.centre_px < exact.corners_px
    # 1.5 of 384 are 3 pixels of 768
    assert shifted.centre_px - exact.centre_px > 3.0
    assert shifted.corners_px - exact.corners_px > 3.0


def test_a_map_on_which_all_agrees_is_as_good_as_the_registration_of_the_data_sets_that_it_was_measured_on() -> None:
    least = bound(np.zeros_like)
    assert 2.8 < least.centre_px < 3.2 and 5.4 < least.corners_px < 6.0  # of 768


def test_it_is_larger_where_the_blocks_near_a_corner_disagree() -> None:
    """Noise without a trend: halves of the blocks have about the same map, and the corner is not known."""
    noise = np.random.default_rng(3)

    def torn(corner: bool) -> Callable[[Array], Array]:
        def off(centres: Array) -> Array:
            there = np.hypot(*(centres - (360, 264)).T) < 100
            chosen = there if corner else noise.permutation(there)
            return np.where(chosen[:, None], noise.choice([-7.0, 7.0], (len(centres), 2)), 0.0)

        return off

    everywhere, there = (np.mean([bound(torn(corner)).corners_px for _ in range(3)]) for corner in (False, True))
    assert there > 1.2 * everywhere


def test_it_grows_where_parts_contradict_each_other_or_have_no_blocks() -> None:
    exact = bound(np.zeros_like)
    near_objects = bound(lambda c: np.where(c[:, 1:] > 200, (2.5, 0.0), (0.0, 0.0)))
    assert near_objects.corners_px > 1.3 * exact.corners_px

    def wave(centres: Array) -> Array:
        return np.stack([np.sin(centres[:, 1] / 15), np.cos(centres[:, 0] / 15)], axis=1)

    everywhere, upper = bound(wave), bound(wave, lambda c: c[:, 1] < 120)
    assert upper.corners_px > 1.3 * everywhere.corners_px


def test_it_is_unknown_with_few_blocks() -> None:
    assert error_bound(Matches(np.zeros((4, 2)), np.zeros((4, 17, 17), np.float32), SIZE), SEEN, 768) is None


def test_the_points_are_those_of_the_common_view() -> None:
    seen = SEEN.copy()
    seen[:, :100] = 0
    points = view_points(seen)
    assert points[0] == pytest.approx((241.5, 143.5), abs=0.5)
    assert points[1:, 0].min() == pytest.approx(100, abs=3) and points[1:, 0].max() == pytest.approx(383, abs=1)
