"""Visible colours fade where the detail of the fused image is not the visible image's, and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fusepipe.core.colour_weight import MOST_FADED, colour_weight, weighted_chroma
from fusepipe.core.planes import Plane
from fusepipe.core.view_settings import OutputColour


def texture(height: int, width: int, seed: int) -> np.ndarray:
    fine = np.random.default_rng(seed).integers(60, 180, (height // 8 + 1, width // 8 + 1), np.uint8)
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def planes(height: int, width: int, *levels: int) -> list[Plane]:
    return [Plane(np.full(((height + 1) // 2, (width + 1) // 2), level, np.uint8)) for level in levels]


def test_colours_stay_where_the_fused_image_has_the_visible_detail() -> None:
    visible = texture(240, 320, 0)
    chroma = planes(240, 320, 90, 170)
    for fused in (visible, visible + np.uint8(30), np.asarray(visible // 2 + 50, np.uint8)):
        kept = weighted_chroma(fused, visible, chroma)
        assert all(one is other for one, other in zip(kept, chroma, strict=True)), "brightness is not detail"


def test_smoke_loses_its_tint_and_the_clear_half_nothing() -> None:
    """Left of the middle the visible image is smoke, and the fused one shows what the infrared camera sees."""
    clear, warm = texture(480, 640, 1), texture(480, 640, 2)
    visible, fused = clear.copy(), clear.copy()
    visible[:, :320], fused[:, :320] = 130, warm[:, :320]
    cb, cr = weighted_chroma(fused, visible, planes(480, 640, 140, 120))
    assert (cb.pixels[:, :40] == 128).all() and (cr.pixels[:, :40] == 128).all()
    assert (cb.pixels[:, 260:] == 140).all() and (cr.pixels[:, 260:] == 120).all()
    steps = np.abs(np.diff(cb.pixels.astype(int), axis=1))
    assert steps.max() <= 1, "the colours end without an edge"


def test_strong_colours_lose_a_little_only() -> None:
    fused, visible = texture(240, 320, 3), np.full((240, 320), 130, np.uint8)
    cb, cr = weighted_chroma(fused, visible, planes(240, 320, 30, 220))
    assert (cb.pixels == 30 + MOST_FADED).all() and (cr.pixels == 220 - MOST_FADED).all()


def test_grey_stays_grey_at_every_weight() -> None:
    """From the visible detail at the left to the infrared one at the right."""
    share = np.linspace(0, 1, 640)[None]
    visible = np.asarray(120 + (1 - share) * (texture(480, 640, 4) - 120.0), np.uint8)
    fused = np.asarray(visible + share * (texture(480, 640, 5) - 120.0), np.uint8)
    weight = colour_weight(fused, visible)
    assert weight.min() < 40 and weight.max() > 215
    assert all((plane.pixels == 128).all() for plane in weighted_chroma(fused, visible, planes(480, 640, 128, 128)))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 2), (121, 243), (479, 641)])
@pytest.mark.parametrize("halved", [True, False])
def test_every_size_of_both_kinds_of_chroma(size: tuple[int, int], halved: bool) -> None:
    height, width = size
    rng = np.random.default_rng(6)
    fused, visible = (rng.integers(0, 256, size, np.uint8) for _ in range(2))
    chroma = planes(*(size if halved else (2 * height, 2 * width)), 60, 150)
    before = [plane.pixels.copy() for plane in chroma]
    for plane, original, kept in zip(chroma, before, weighted_chroma(fused, visible, chroma), strict=True):
        assert kept.pixels.shape == plane.pixels.shape and kept.pixels.dtype == np.uint8
        assert np.array_equal(plane.pixels, original), "the visible planes are not changed"
        assert (np.abs(kept.pixels.astype(int) - 128) <= np.abs(original.astype(int) - 128)).all()


def test_the_words_of_the_configuration() -> None:
    from typing import get_args

    from fusepipe.config.schema import OutputConfig

    assert [OutputConfig(colour=word).colour for word in get_args(OutputColour)] == ["visible", "weighted", "grey"]
