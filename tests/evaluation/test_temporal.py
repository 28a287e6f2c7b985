"""TR and luminance excess: known flicker, known figures, and what cannot be compared."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.metrics.temporal import TemporalReference, luminance_excess, temporal_ratio

FRAMES = 8


def mean_rule(a: Luma8, b: Luma8) -> Luma8:
    return ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8)


@pytest.fixture(scope="module")
def static() -> tuple[list[Luma8], list[Luma8]]:
    """A static scene, with a camera's noise of one grey level; 96x128."""
    rng = np.random.default_rng(4)
    scenes = []
    for sigma in (3.0, 5.0):
        blurred = cv2.GaussianBlur(rng.normal(0, 1, (96, 128)), (0, 0), sigma)
        scenes.append(110 + 30 * blurred / blurred.std())
    ir, vis = (
        [(scene + rng.normal(0, 1, scene.shape)).clip(0, 255).round().astype(np.uint8) for _ in range(FRAMES)]
        for scene in scenes
    )
    return ir, vis


def test_tr_rises_with_a_known_flicker(static: tuple[list[Luma8], list[Luma8]]) -> None:
    """A gain that alternates by 1 +- g: TR rises with g, and the excess is the step of the mean it makes."""
    ir, vis = static
    reference = TemporalReference(ir, vis)
    calm = [mean_rule(a, b) for a, b in zip(ir, vis, strict=True)]
    ratios = []
    for gain in (0.0, 0.01, 0.03, 0.1):
        factors = [1.0 + gain * (-1) ** t for t in range(FRAMES)]
        fused = [(f * k).round().clip(0, 255).astype(np.uint8) for f, k in zip(calm, factors, strict=True)]
        score = reference.score(fused)
        ratios.append(score.ratio)
        steps = np.abs(np.diff([f.mean() for f in fused]))
        sources = [np.diff([x.mean() for x in band]) for band in (ir, vis)]
        assert score.luminance_excess == pytest.approx(steps.mean(), abs=np.abs(sources).max() + 1e-9)
        if gain > 0.02:  # below, the rounding to whole grey levels shows
            assert score.luminance_excess == pytest.approx(2 * gain * np.mean(calm), rel=0.03)
        assert score.luminance_excess == pytest.approx(np.mean(score.excess_of_step))
    assert ratios == sorted(ratios)
    assert ratios[0] == pytest.approx(1.0, abs=0.05), "the mean adds none"
    assert 1.5 < ratios[2] < ratios[3] / 2


def test_luminance_excess_by_hand() -> None:
    """Means of ir 10, 20, 20 and vis 50, 50, 40: steps +10, 0 and 0, -10."""
    ir, vis = ([np.full((32, 32), level, np.uint8) for level in levels] for levels in ((10, 20, 20), (50, 50, 40)))

    def excess(*levels: int) -> float:
        return luminance_excess(ir, vis, [np.full((32, 32), level, np.uint8) for level in levels])

    assert excess(30, 40, 30) == 0.0
    assert excess(30, 37, 37) == 0.0
    assert excess(30, 44, 40) == pytest.approx((4 + 0) / 2)
    assert excess(30, 28, 14) == pytest.approx((2 + 4) / 2)


def test_the_sources_and_their_mean_do_not_flicker(static: tuple[list[Luma8], list[Luma8]]) -> None:
    ir, vis = static
    reference = TemporalReference(ir, vis)
    assert (reference.score(ir).ratio + reference.score(vis).ratio) / 2 == pytest.approx(1.0)
    assert reference.score(ir).luminance_excess == 0.0
    score = reference.score(vis)
    assert len(score.error_of_step) == len(score.excess_of_step) == FRAMES - 1


def test_motion_is_followed() -> None:
    """A textured scene that moves by (3, 1) a frame: a fused sequence that follows it has far less error."""
    rng = np.random.default_rng(9)
    blurred = cv2.GaussianBlur(rng.normal(0, 1, (140, 180)), (0, 0), 3.0)
    world = (128 + 45 * blurred / blurred.std()).clip(0, 255).astype(np.uint8)
    moving = [np.ascontiguousarray(world[t : t + 96, 3 * t : 3 * t + 128]) for t in range(6)]
    reference = TemporalReference(moving, moving)
    assert reference.score(moving).ratio == pytest.approx(1.0)
    # twins in step agree; frozen every second frame they do not
    frozen = [moving[t // 2 * 2] for t in range(6)]
    assert reference.score(frozen).ratio > 3.0


def test_incomparable_sequences_are_reported(static: tuple[list[Luma8], list[Luma8]]) -> None:
    ir, vis = static
    flat = [np.full_like(ir[0], 90)] * FRAMES
    assert math.isnan(TemporalReference(ir, vis).score(flat).ratio)
    assert math.isnan(temporal_ratio([ir[0]] * 3, [vis[0]] * 3, [ir[0]] * 3))
    with pytest.raises(UsageError, match="two frames or more of each band; got 1 and 1"):
        TemporalReference(ir[:1], vis[:1])
    with pytest.raises(UsageError, match="got 8 and 7"):
        TemporalReference(ir, vis[1:])
    with pytest.raises(UsageError, match="one size"):
        TemporalReference(ir, [v[1:] for v in vis])
    reference = TemporalReference(ir, vis)
    with pytest.raises(UsageError, match="has 7 frames, its sources 8"):
        reference.score(ir[1:])
    with pytest.raises(UsageError, match="do not fit"):
        reference.score([a[1:] for a in ir])
    with pytest.raises(UsageError, match="float64"):
        reference.score([a.astype(np.float64) for a in ir])  # type: ignore[misc]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 4), (17, 30)])
def test_small_frames(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    ir, vis = ([rng.integers(0, 256, size, np.uint8) for _ in range(3)] for _ in range(2))
    score = TemporalReference(ir, vis).score(ir)
    assert score.luminance_excess == 0.0
    assert math.isnan(score.ratio) or score.ratio >= 0.0


@pytest.mark.data
@pytest.mark.parametrize(
    ("sequence", "mean", "maximum"), [("nato_camp", 1.03, 1.08), ("tree", 0.88, 0.92), ("duine", 0.93, 1.05)]
)
def test_known_figures_of_the_rules(sequence: str, mean: float, maximum: float, data_dir: Path) -> None:
    folder = data_dir / "tno" / "sequences" / sequence
    ir, vis = (
        [cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in sorted((folder / band).iterdir())] for band in ("ir", "vis")
    )
    reference = TemporalReference(ir, vis)
    pairs = list(zip(ir, vis, strict=True))
    assert reference.score([mean_rule(a, b) for a, b in pairs]).ratio == pytest.approx(mean, abs=0.0055)
    assert reference.score([np.maximum(a, b) for a, b in pairs]).ratio == pytest.approx(maximum, abs=0.0055)
