"""The finer levels of a pyramid network: bands of rows give what the whole image gives, in less memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fusepipe.core.buffers import COUNTED, BufferPool
from fusepipe.core.frames import Luma8
from fusepipe.engines.backends.openvino import pyramid as levels
from fusepipe.engines.backends.openvino.pyramid import Pyramid

SHARPNESS = (5.8, 11.7, 0.2)


def of_noise(pyramid: Pyramid, size: tuple[int, int], visible_levels: int) -> Luma8:
    rng = np.random.default_rng(0)
    small = tuple(-(-side >> visible_levels) for side in size)
    pyramid.reduce(rng.integers(0, 256, small, np.uint8), rng.integers(0, 256, size, np.uint8))
    rows, columns = pyramid.coarse_shape
    gates = 1.5 * rng.random((3, rows, columns), np.float32) - 0.2
    gains = 2 * rng.random((3, rows // 2, columns // 2), np.float32)
    return pyramid.add_detail(rng.random((rows, columns), np.float32), gates, gains)


def fused(width: int, height: int, visible_levels: int) -> Luma8:
    return of_noise(Pyramid(height, width, SHARPNESS, visible_levels), (height, width), visible_levels)


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


@pytest.mark.skipif(not COUNTED, reason="this Python does not count references at once")
@pytest.mark.parametrize(("visible_levels", "bytes_a_pixel"), [(0, 4), (1, 3)])
def test_two_requests_hold_no_finest_level_and_one_scratch_memory(visible_levels: int, bytes_a_pixel: float) -> None:
    """Of a picture with the result, which is 1; a finest level alone is 2 bytes a pixel."""
    size, scratch = (1152, 960), BufferPool()
    tracemalloc.start(1)
    try:
        before, _ = tracemalloc.get_traced_memory()
        pyramids = [Pyramid(*size, SHARPNESS, visible_levels, scratch) for _ in range(2)]
        results = [of_noise(pyramid, size, visible_levels) for pyramid in pyramids]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(*results)
    assert scratch.made == 1
    scratch_bytes = scratch.take((pyramids[0].scratch_px,), np.int16).nbytes
    assert (held - before - scratch_bytes) / 2 / (size[0] * size[1]) < bytes_a_pixel


@pytest.mark.skipif(not COUNTED, reason="this Python does not count references at once")
def test_the_images_are_free_once_fused() -> None:
    pool, size = BufferPool(), (64, 48)
    pyramid = Pyramid(*size, SHARPNESS)
    pyramid.reduce(pool.take(size), pool.take(size))
    pool.take(size)[:] = 0
    assert pool.made == 3, "the pyramid reads both until it has the details"
    rows, columns = pyramid.coarse_shape
    gates, gains = np.zeros((3, rows, columns), np.float32), np.zeros((3, rows // 2, columns // 2), np.float32)
    pyramid.add_detail(np.zeros((rows, columns), np.float32), gates, gains)
    kept = [pool.take(size) for _ in range(3)]
    assert pool.made == len(kept)
