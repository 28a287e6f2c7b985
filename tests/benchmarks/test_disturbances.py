"""What the benchmarks do to images: grain and compression."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fusepipe.core.errors import UsageError

FILE = Path(__file__).parents[2] / "benchmarks" / "disturbances.py"
SPEC = importlib.util.spec_from_file_location(FILE.stem, FILE)
assert SPEC is not None and SPEC.loader is not None
MODULE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)
compressed, grained = MODULE.compressed, MODULE.grained
FLAT = np.full((128, 160), 120, np.uint8)


@pytest.mark.parametrize("deviation", [2.0, 5.0])
def test_grain_has_its_deviation_in_both_images_and_differs_between_them(deviation: float) -> None:
    infrared, visible = grained(FLAT, FLAT, deviation, 0)
    for image in (infrared, visible):
        assert image.dtype == np.uint8 and abs(float(image.std()) - deviation) < 0.1
        assert abs(float(image.mean()) - 120) < 0.2
    assert abs(np.corrcoef(infrared.ravel(), visible.ravel())[0, 1]) < 0.03


def test_grain_is_clipped_and_the_same_for_the_same_seed() -> None:
    white = np.full((32, 32), 255, np.uint8)
    first, again, other = (grained(white, white, 5.0, seed)[0] for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
    assert first.min() >= 230  # nothing has wrapped around to black


def test_compression_keeps_the_level_and_loses_more_at_a_higher_rate_factor() -> None:
    texture = np.random.default_rng(0).normal(120, 20, (128, 160)).round().clip(0, 255).astype(np.uint8)
    errors = [float(np.abs(compressed(texture, crf).astype(int) - texture).mean()) for crf in (0, 23, 35)]
    assert errors[0] == 0 and 1 < errors[1] < errors[2]
    assert abs(float(compressed(FLAT, 35).mean()) - 120) < 1


def test_what_h264_does_not_take_is_reported() -> None:
    with pytest.raises(UsageError, match="even sides here, not 160x127"):
        compressed(FLAT[:127], 35)
    with pytest.raises(UsageError, match="0 to 51, not 52"):
        compressed(FLAT, 52)
