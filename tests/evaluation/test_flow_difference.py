"""flowD on sequences whose value is known by hand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.metrics.flow_difference import FlowReference, flow_difference, relative_flow_difference
from fusepipe.evaluation.metrics.registry import SEQUENCE_METRICS


def texture(height: int = 96, width: int = 160, seed: int = 0) -> Luma8:
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return cv2.normalize(smooth, None, 20, 220, cv2.NORM_MINMAX).astype(np.uint8)


def test_without_motion_it_is_the_mean_absolute_difference() -> None:
    still = texture()
    fused = [np.full(still.shape, level, np.uint8) for level in (100, 104, 98)]
    # the steps are 4 and 6 grey levels
    score = FlowReference([still] * 3).score(fused)
    assert score.difference == pytest.approx(5.0) and math.isnan(score.relative)


def test_it_is_divided_by_the_mean_standard_deviation() -> None:
    still = texture()
    halves = np.zeros(still.shape, np.uint8)
    halves[:, still.shape[1] // 2 :] = 40  # a standard deviation of 20
    brighter = (halves // 2 + 10).astype(np.uint8)  # of 10; every pixel is 10 grey levels off
    score = FlowReference([still] * 2).score([halves, brighter])
    assert score.difference == pytest.approx(10.0)
    assert score.relative == pytest.approx(10.0 / 15.0)


def test_what_moves_with_the_visible_image_counts_as_no_change() -> None:
    wide = texture(96, 200)
    frames = [np.ascontiguousarray(wide[:, 3 * n : 3 * n + 160]) for n in range(3)]
    inside = FlowReference(frames).score(frames).difference
    moving = float(np.mean([np.abs(frames[n + 1].astype(float) - frames[n]).mean() for n in range(2)]))
    assert inside < 0.15 * moving
    standing = FlowReference(frames).score([frames[0]] * 3).difference  # stays where the visible image moves
    assert standing > 0.5 * moving


def test_half_the_contrast_halves_it_and_leaves_the_ratio() -> None:
    rng = np.random.default_rng(3)
    still = texture()
    full = [(rng.integers(0, 60, still.shape) * 4).astype(np.uint8) for _ in range(3)]
    half = [(image // 2).astype(np.uint8) for image in full]
    reference = FlowReference([still] * 3)
    one, other = reference.score(full), reference.score(half)
    assert other.difference == pytest.approx(one.difference / 2, rel=1e-6)
    assert other.relative == pytest.approx(one.relative, rel=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (9, 5), (15, 16)])
def test_any_size(size: tuple[int, int]) -> None:
    frames = [np.full(size, level, np.uint8) for level in (10, 12)]
    assert FlowReference([frames[0]] * 2).score(frames).difference == pytest.approx(2.0)


def test_the_table_has_both() -> None:
    vis = [texture(), texture(seed=1)]
    assert SEQUENCE_METRICS["flowD"].function(vis, vis, vis) == flow_difference(vis, vis, vis)
    assert SEQUENCE_METRICS["flowD_SD"].function(vis, vis, vis) == relative_flow_difference(vis, vis, vis)
    assert SEQUENCE_METRICS["flowD"].direction == SEQUENCE_METRICS["flowD_SD"].direction == "lower"


def test_sequences_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="two frames"):
        FlowReference([texture()])
    with pytest.raises(UsageError, match="3 frames, its sources 2"):
        FlowReference([texture()] * 2).score([texture()] * 3)
    with pytest.raises(UsageError, match="do not fit"):
        FlowReference([texture()] * 2).score([texture(50, 50)] * 2)
