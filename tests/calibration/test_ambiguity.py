"""Repeating patterns: a second place that agrees about as well is found, and said."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fusepipe.calibration.scene.registration import register
from fusepipe.calibration.scene.residuals import measure_residuals
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.core.frames import Luma8
from fusepipe.workflows.calibrate_scene import calibrate_scene, reliability_warning

TRUE = np.array([[1.6, 0.0, 60.0], [0.0, 1.6, 50.0], [0.0, 0.0, 1.0]])
PERIOD_PX = (48, 56)


def facade(columns: range, rows: range) -> ScenePair:
    """Windows, bright in the visible and cold in the infrared image."""
    random = np.random.default_rng(1)
    visible, infrared = np.full((480, 640), 90, np.uint8), np.full((480, 640), 150, np.uint8)
    for x in columns:
        for y in rows:
            cv2.rectangle(visible, (x, y), (x + 24, y + 32), (200,), -1)
            cv2.rectangle(infrared, (x, y), (x + 24, y + 32), (60,), -1)

    def seen(image: Luma8) -> Luma8:
        smooth = cv2.GaussianBlur(image.astype(np.float64), (0, 0), 1)
        return np.asarray(np.clip(smooth + random.normal(0, 3, image.shape), 0, 255), np.uint8)

    return ScenePair(seen(np.asarray(cv2.warpAffine(infrared, np.linalg.inv(TRUE)[:2], (320, 240)))), seen(visible))


@pytest.mark.slow
def test_a_facade_without_its_border_is_refused() -> None:
    pair = facade(range(-40, 700, 48), range(-40, 520, 56))
    result, calibration = calibrate_scene([pair])
    assert calibration is None
    assert "the scene repeats itself: an alignment that is" in result.refusal and "about as well" in result.refusal


@pytest.mark.slow
def test_a_facade_with_its_border_is_registered_with_a_warning() -> None:
    pair = facade(range(150, 500, 48), range(100, 400, 56))
    result = register([pair])
    assert not result.refusal
    assert np.abs(result.matrix - TRUE).max() < 2.0
    assert result.second is not None and min(PERIOD_PX) - 3 < result.second.apart_px < max(PERIOD_PX) + 3
    assert "check the overlay for an offset by one period" in reliability_warning(result)
    # a calibration that is off by one period agrees well by itself
    shifted = np.array([[1.0, 0, 48], [0, 1, 0], [0, 0, 1]]) @ TRUE
    found = measure_residuals([pair], shifted)
    assert found.quality.accepted and found.median_px < 2.0
    assert found.verdict[0] == "unknown" and "repeats itself" in found.verdict[1]


def test_other_scenes_have_one_place() -> None:
    random = np.random.default_rng(2)
    noise = random.normal(0, 1, (480, 640))
    texture = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (4, 10))
    visible = np.asarray(np.clip(120 + 60 * texture, 0, 255), np.uint8)
    infrared = np.asarray(255 - cv2.warpAffine(visible, np.linalg.inv(TRUE)[:2], (320, 240)), np.uint8)
    found = measure_residuals([ScenePair(infrared, visible)], TRUE)
    assert found.second is None and found.verdict[0] == "good", found.verdict
