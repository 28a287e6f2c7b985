"""The registration stage: at the visible size, or as small as the infrared image's detail allows."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fusepipe.calibration.warp import RemapWarp, size_warp
from fusepipe.core.frames import Band, FramePair, PairState
from fusepipe.pipeline.stages.registration import Registration, Size
from fusepipe.pipeline.testing import frame


def pair(infrared: Size, visible: Size) -> FramePair:
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.uniform(0, 255, infrared[::-1]).astype(np.float32), (0, 0), 3) * 4 - 380
    pixels = np.clip(grey, 0, 255).astype(np.uint8)
    ir = frame(Band.INFRARED, 0, 0, pixels=pixels)
    return FramePair(
        0, PairState.FUSED, Band.VISIBLE, ir, frame(Band.VISIBLE, 0, 0, pixels=np.zeros(visible[::-1], np.uint8)), 0
    )


def narrow(infrared: Size, visible: Size) -> RemapWarp:
    """The infrared camera sees the middle third of the visible image: its pixels are as small as the visible ones."""
    scale = visible[0] / 3 / infrared[0]
    matrix = np.array([[scale, 0, visible[0] / 3], [0, scale, visible[1] / 3], [0, 0, 1]])
    return RemapWarp(matrix, infrared, visible)


@pytest.mark.parametrize(
    ("infrared", "visible", "levels"),
    [
        ((640, 512), (1920, 1080), 1),  # 2.1 visible pixels an infrared one
        ((160, 120), (1280, 960), 3),
        ((160, 120), (1284, 964), 2),  # halved as long as the sides are even
        ((372, 279), (640, 480), 1),  # shrinking by a sixth costs less than it saves
        ((400, 300), (640, 480), 0),
        ((640, 480), (640, 480), 0),
        ((640, 480), (320, 240), 0),
    ],
)
def test_the_infrared_image_is_registered_at_its_own_scale(infrared: Size, visible: Size, levels: int) -> None:
    made = Registration(size_warp, visible, max_visible_levels=4)(pair(infrared, visible))
    assert made.registered is not None and made.visible_levels == levels
    assert (made.registered.width << levels, made.registered.height << levels) == visible


def test_no_more_levels_than_the_engine_takes() -> None:
    made = Registration(size_warp, (1280, 960), max_visible_levels=1)(pair((160, 120), (1280, 960)))
    assert made.visible_levels == 1
    assert Registration(size_warp, (1280, 960))(pair((160, 120), (1280, 960))).visible_levels == 0


def test_a_narrow_view_keeps_its_detail() -> None:
    made = Registration(narrow, (960, 720), max_visible_levels=4)(pair((320, 240), (960, 720)))
    assert made.visible_levels == 0


def test_consumers_see_the_visible_size() -> None:
    size = (640, 480)

    def partial_view(infrared: Size, visible: Size) -> RemapWarp:
        scale = visible[0] / 200
        return RemapWarp(np.array([[scale, 0, visible[0] / 10], [0, scale, 0], [0, 0, 1]]), infrared, visible)

    incoming = pair((160, 120), size)
    small = Registration(partial_view, size, max_visible_levels=4)(incoming)
    whole = Registration(partial_view, size)(incoming)
    small, whole = (replace(made, luma=made.registered) for made in (small, whole))
    assert small.visible_levels == 1
    luma, full = small.registered_luma(), whole.registered_luma()
    seen, mask = small.seen(), whole.seen()
    assert luma is not None and full is not None and seen is not None and mask is not None
    assert luma.pixels.shape == full.pixels.shape == seen.shape == (480, 640)
    assert np.abs(luma.pixels.astype(int) - full.pixels.astype(int)).mean() < 2
    assert (seen != mask).mean() < 0.02


def test_the_scale_of_a_warp() -> None:
    assert RemapWarp(np.diag([3.0, 3.0, 1.0]), (100, 80), (300, 240)).scale == pytest.approx(3)
    tilted = np.array([[2.0, 0.1, 4.0], [-0.1, 2.0, 9.0], [1e-4, 0, 1]])
    warp = RemapWarp(tilted, (100, 80), (220, 180))
    here, right, below = (tilted @ (x, y, 1) for x, y in ((49.5, 39.5), (50.5, 39.5), (49.5, 40.5)))
    steps = [(p / p[2] - here / here[2])[:2] for p in (right, below)]
    assert warp.scale == pytest.approx(abs(np.linalg.det(np.stack(steps))) ** 0.5, rel=1e-3)


def test_no_warp_for_the_visible_size_is_built_where_the_image_is_registered_smaller() -> None:
    built: list[Size] = []

    def build(infrared: Size, visible: Size) -> RemapWarp | None:
        built.append(visible)
        return size_warp(infrared, visible)

    Registration(build, (1280, 960), max_visible_levels=4)(pair((160, 120), (1280, 960)))
    assert built == [(160, 120)], "8000x6000 would take 400 MB"
    made = Registration(build, (1280, 960), max_visible_levels=4)(pair((640, 480), (1280, 960)))
    assert built[1:] == [(160, 120), (640, 480)] and made.visible_levels == 1
