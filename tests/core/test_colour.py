"""Planes to colours and back in bands of rows: the same bytes as at once, in the memory of the result."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from fusepipe.core import colour
from fusepipe.core.colour import bgr_to_planes, planes_to_bgr
from fusepipe.core.planes import Matrix, Plane

RNG = np.random.default_rng(0)


def test_planes_are_those_of_opencv() -> None:
    bgr = RNG.integers(0, 256, (2 * colour.BAND + 37, 53, 3), np.uint8)
    y, cr, cb = cv2.split(cv2.cvtColor(bgr, cv2.COLOR_BGR2YCrCb))
    assert all(map(np.array_equal, bgr_to_planes(bgr), (y, cb, cr)))


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("value_range", ["full", "limited"])
def test_bands_do_not_change_a_byte(monkeypatch: pytest.MonkeyPatch, matrix: Matrix, value_range: str) -> None:
    height, width = 301, 64
    planes = [
        Plane(RNG.integers(0, 256, shape, np.uint8), 8, "limited" if value_range == "limited" else "full")
        for shape in ((height, width), (height // 2 + 1, width // 2), (height // 2 + 1, width // 2))
    ]
    monkeypatch.setattr(colour, "BAND", height)
    whole = planes_to_bgr(planes, matrix)
    monkeypatch.setattr(colour, "BAND", 7)
    assert np.array_equal(planes_to_bgr(planes, matrix), whole)
    if matrix == "bt601" and value_range == "full":
        chroma = [cv2.resize(plane.pixels, (width, height), interpolation=cv2.INTER_LINEAR) for plane in planes[:0:-1]]
        assert np.array_equal(whole, cv2.cvtColor(cv2.merge([planes[0].pixels, *chroma]), cv2.COLOR_YCrCb2BGR))


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_a_large_picture_takes_little_more_than_the_result(matrix: Matrix) -> None:
    height, width = 8 * colour.BAND, 320
    planes = [Plane(np.full((height, width), 128, np.uint8)) for _ in range(3)]
    tracemalloc.start(1)
    try:
        before, _ = tracemalloc.get_traced_memory()
        planes_to_bgr(planes, matrix)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # three bytes a pixel; at once BT.601 took 6, BT.709 27
    assert (peak - before) / (height * width) < 3 + (0.5 if matrix == "bt601" else 5)
