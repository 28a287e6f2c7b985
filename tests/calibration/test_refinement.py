"""Candidates on which little agrees after the coarse levels are given up; others are refined to the end."""

from __future__ import annotations

import cv2
import numpy as np

from fusepipe.calibration.gradient_field import Field
from fusepipe.calibration.scene.block_matching import VisibleFields
from fusepipe.calibration.scene.local_matches import PLANE_MODELS
from fusepipe.calibration.scene.refinement import FINE, best_refined, coarsely, refined
from fusepipe.calibration.scene.search import Candidate, ScenePair
from fusepipe.core.frames import Luma8

FINEST_PX = FINE[-1].width_px


class RecordingFields(VisibleFields):
    """Remembers the widths that were asked for."""

    def __init__(self, pair: ScenePair) -> None:
        super().__init__([pair])
        self.widths: set[int] = set()

    def at(self, index: int, width_px: int) -> Field:
        self.widths.add(width_px)
        return super().at(index, width_px)


def texture(seed: int) -> Luma8:
    noise = np.random.default_rng(seed).normal(size=(240, 320))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3.0)
    return np.clip(smooth / smooth.std() * 40 + 128, 0, 255).astype(np.uint8)


def shift(x: float, y: float) -> Candidate:
    return Candidate(np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]]), 1.0, 1.0, 1.0)


def test_images_that_do_not_belong_together_are_not_refined_to_the_end() -> None:
    pair = ScenePair(texture(1), texture(2))
    fields = RecordingFields(pair)
    matrix, hopeful = coarsely([pair], shift(0, 0).matrix, fields, PLANE_MODELS)
    assert not hopeful
    result = refined([pair], shift(0, 0).matrix, fields, PLANE_MODELS)
    assert np.array_equal(result.matrix, matrix) and result.model == "affine" and not result.quality.reliable
    assert best_refined([pair], [shift(0, 0), shift(30, 0), shift(0, 40)], fields, PLANE_MODELS) is None
    assert FINEST_PX not in fields.widths and fields.widths


def test_the_one_of_several_candidates_that_agrees_is_refined_to_the_end() -> None:
    visible = texture(3)
    pair = ScenePair(np.ascontiguousarray(255 - np.roll(visible, (-5, 4), (0, 1))), visible)
    fields = RecordingFields(pair)
    found = best_refined([pair], [shift(60, 0), shift(0, 0), shift(0, 70)], fields, PLANE_MODELS)
    assert found is not None and found.quality.accepted
    assert np.abs(found.matrix - shift(-4, 5).matrix).max() < 0.5
    assert FINEST_PX in fields.widths
