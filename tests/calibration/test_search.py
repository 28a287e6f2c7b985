"""The search of the infrared image in the visible one, against correlations computed shift by shift."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fusepipe.calibration.gradient_field import gradient_field, shrunk
from fusepipe.calibration.matrix import scaling
from fusepipe.calibration.scene.search import ScenePair, search
from fusepipe.core.frames import Luma8


def texture(height: int, width: int, seed: int) -> Luma8:
    noise = np.random.default_rng(seed).normal(size=(height, width))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(smooth / smooth.std() * 40 + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(96, 120), (70, 130)])
def test_a_score_is_the_correlation_of_what_overlaps(shape: tuple[int, int]) -> None:
    pair = ScenePair(texture(80, 100, 1), texture(*shape, 2))
    candidates = [one for one in search([pair], (0.9, 1.3)) if one.matrix[1, 0] == 0]  # without roll
    assert len(candidates) >= 10
    visible = gradient_field(pair.visible)
    for candidate in candidates:
        width = round(candidate.scale * shape[1])
        size = width, round(width * 0.8)
        infrared = gradient_field(shrunk(pair.infrared, size))
        dx, dy = np.rint(candidate.matrix @ np.linalg.inv(scaling((100, 80), size)))[:2, 2].astype(int)
        x, y = slice(max(dx, 0), min(dx + size[0], shape[1])), slice(max(dy, 0), min(dy + size[1], shape[0]))
        own = infrared[y.start - dy : y.stop - dy, x.start - dx : x.stop - dx]
        other = visible[y, x]
        score = (own * other).sum() / np.sqrt((own**2).sum() * (other**2).sum())
        assert candidate.score == pytest.approx(score, abs=1e-4)
        assert candidate.strength == pytest.approx(score * np.sqrt(own.shape[0] * own.shape[1]), abs=0.01)


def test_a_part_of_the_image_is_found_where_it_was_cut_out() -> None:
    visible = texture(96, 128, 3)
    best = search([ScenePair(np.ascontiguousarray(visible[11:83, 25:121]), visible)], (0.75, 0.78))[0]
    assert best.matrix == pytest.approx(np.array([[1, 0, 25], [0, 1, 11], [0, 0, 1]]), abs=1.0)
    assert best.score > 0.9
