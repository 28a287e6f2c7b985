"""The finer levels of a pyramid network: bands of rows give what the whole image gives, in less memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fusepipe.core.frames import Luma8
from fusepipe.engines.backends.openvino import pyramid as levels
from fusepipe.engines.backends.openvino.pyramid import Pyramid

SHARPNESS = (5.8, 11.7, 0.2)


def fused(width: int, height: int, visible_levels: int) -> Luma8:
    rng = np.random.default_rng(0)
    pyramid = Pyramid(height, width, SHARPNESS, visible_levels)
    small = tuple(-(-side >> visible_levels) for side in (height, width))
    pyramid.reduce(rng.integers(0, 256, small, np.uint8), rng.integers(0, 256, (height, width), np.uint8))
    rows, columns = pyramid.coarse_shape
    gates = 1.5 * rng.random((3, rows, columns), np.float32) - 0.2
    gains = 2 * rng.random((3, rows // 2, columns // 2), np.float32)
    return pyramid.add_detail(rng.random((rows, columns), np.float32), gates, gains)


@pytest.mark.parametrize(
    ("width", "height", "visible_levels"), [(160, 120, 0), (101, 99, 0), (200, 151, 1), (330, 258, 2), (8, 300, 0)]
)
def test_bands_give_the_bytes_of_the_whole_image(
    monkeypatch: pytest.MonkeyPatch, width: int, height: int, visible_levels: int
) -> None:
    whole = fused(width, height, visible_levels)
    for rows in (16, 48):
        monkeypatch.setattr(levels, "BAND", rows)
        assert np.array_equal(fused(width, height, visible_levels), whole)


def test_a_large_picture_takes_eleven_bytes_a_pixel() -> None:
    """int16 of both images' and the result's levels and little more: without bands it is 18."""
    height, width = 2304, 960
    tracemalloc.start(1)
    try:
        before, _ = tracemalloc.get_traced_memory()
        pyramid = Pyramid(height, width, SHARPNESS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pyramid.coarse_shape == (288, 120)
    assert (peak - before) / (height * width) < 11
