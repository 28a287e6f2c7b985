"""The methods of ``benchmarks/compare_registration`` map a known displacement in the right direction."""

from __future__ import annotations

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "compare_registration"


@pytest.mark.parametrize("name", ["ECC, affine", "ECC on gradients, affine", "phase correlation", "SIFT + RANSAC"])
def test_a_method_returns_the_map_from_infrared_to_visible(name: str) -> None:
    noise = np.random.default_rng(1).normal(0, 1, (340, 420))
    scene = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (3, 8, 20))
    scene = np.asarray(cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX), np.uint8)
    infrared, visible = (
        scene[45:285, 46:366],
        scene[40:280, 40:360],
    )  # what is at (0, 0) of one is at (6, 5) of the other
    found = runpy.run_path(str(SCRIPT))["METHODS"][name](np.ascontiguousarray(infrared), np.ascontiguousarray(visible))
    assert found is not None
    centre = found @ (160, 120, 1)
    assert centre[:2] / centre[2] == pytest.approx((166, 125), abs=0.7)
