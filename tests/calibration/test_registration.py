"""Registration of narrow infrared views: they are matched within the part of the visible image around them."""

from __future__ import annotations

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fusepipe.calibration.scene.local_matches import PLANE_MODELS
from fusepipe.calibration.scene.registration import around, register
from fusepipe.calibration.scene.search import DEFAULT_SCALES, ScenePair
from fusepipe.core.frames import Band, Luma8, Size
from fusepipe.pipeline.sources.synthetic.source import SyntheticSource
from fusepipe.pipeline.sources.synthetic.truth import true_matrix

IR, VIS = (1280, 960), (1280, 960)


def street_image(band: Band, size: Size) -> Luma8:
    source = SyntheticSource(f"synthetic://street?size={size[0]}x{size[1]}&duration=40ms&noise=1", band)
    source.open()
    (frame,) = source.frames(threading.Event())
    source.close()
    return np.asarray(frame.luma.pixels, np.uint8)


def narrow_pair(x: int, y: int, width: int) -> tuple[ScenePair, np.ndarray]:
    """A part of the street's infrared image as the whole view, and its true matrix."""
    height = width * 3 // 4
    infrared = np.ascontiguousarray(street_image(Band.INFRARED, IR)[y : y + height, x : x + width])
    shift = np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
    return ScenePair(infrared, street_image(Band.VISIBLE, VIS)), true_matrix(IR, VIS) @ shift


def error_px(found: np.ndarray, truth: np.ndarray, pair: ScenePair) -> float:
    height, width = pair.infrared.shape
    corners = np.array([[[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]], np.float64)
    off = cv2.perspectiveTransform(corners, found) - cv2.perspectiveTransform(corners, truth)
    return float(np.hypot(off[..., 0], off[..., 1]).mean())


@pytest.mark.slow
@pytest.mark.parametrize("scales", [DEFAULT_SCALES, (0.3, 0.5)])
def test_a_narrow_view_is_found(scales: tuple[float, float]) -> None:
    pair, truth = narrow_pair(500, 420, 500)
    ratio = np.linalg.norm(truth[:2, 0] / truth[2, 2]) * pair.infrared.shape[1] / VIS[0]
    assert 0.3 < ratio < 0.36
    result = register([pair], scales, PLANE_MODELS, explain=False)
    assert result.refusal == ""
    assert error_px(result.matrix, truth, pair) < 2.0
    assert result.visible_size == VIS and result.quality.overlap < 0.25
    # the same part of another scene's infrared image is refused
    other = replace(pair, infrared=np.ascontiguousarray(cv2.rotate(pair.infrared, cv2.ROTATE_180)))
    assert register([other], scales, PLANE_MODELS, explain=False).refusal


def test_the_part_around_a_view_stays_in_the_image() -> None:
    matrix = np.array([[0.5, 0.0, 100.0], [0.0, 0.5, 20.0], [0.0, 0.0, 1.0]])
    assert around(matrix, (200, 100), (640, 480)) == (80, 10, 140, 70)
    assert around(matrix @ np.diag([20.0, 20.0, 1.0]), (200, 100), (640, 480)) == (0, 0, 640, 480)
    outside = np.array([[0.5, 0.0, 900.0], [0.0, 0.5, 20.0], [0.0, 0.0, 1.0]])
    assert around(outside, (200, 100), (640, 480))[2] == 0
