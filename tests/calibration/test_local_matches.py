"""Correlation surfaces against correlations computed one by one, and maps that are fitted to surfaces made here."""

from __future__ import annotations

import numpy as np
import pytest

from fusepipe.calibration.scene.local_matches import MIN_ENERGY, MIN_SEEN, Matches, Model, fit, match_blocks

RADIUS = 6


def test_a_surface_is_the_correlation_of_a_block_at_each_displacement() -> None:
    rng = np.random.default_rng(4)
    infrared, visible = (rng.normal(0, 0.4, (60, 72, 2)).astype(np.float32) for _ in range(2))
    infrared[:, 48:] *= 0.01  # without edges
    seen = np.ones((60, 72), np.float32)
    seen[:, :4] = 0
    seen[:14, 24:] = 0
    matches = match_blocks(infrared, visible, seen, block_px=24, step_px=12, radius_px=3)
    masked = infrared * seen[..., None]
    blocks = {(x, y): masked[y : y + 24, x : x + 24] for x in range(0, 49, 12) for y in range(0, 37, 12)}
    used = {
        at
        for at, block in blocks.items()
        if (block**2).sum() >= MIN_ENERGY * 24 * 24 and seen[at[1] : at[1] + 24, at[0] : at[0] + 24].mean() >= MIN_SEEN
    }
    assert 5 < len(used) < len(blocks) - 5
    assert {(round(x - 11.5), round(y - 11.5)) for x, y in matches.centres} == used
    framed = np.pad(visible, ((3, 3), (3, 3), (0, 0)))
    for (x, y), surface in zip(np.rint(matches.centres - 11.5).astype(int), matches.surfaces, strict=True):
        block = blocks[x, y]
        for dy in range(7):
            for dx in range(7):
                there = framed[y + dy : y + dy + 24, x + dx : x + dx + 24]
                expected = (block * there).sum() / np.sqrt((block**2).sum() * (there**2).sum())
                assert surface[dy, dx] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("model", ["similarity", "affine"])
def test_a_map_is_fitted_to_edges_that_each_know_one_direction(model: Model) -> None:
    rng = np.random.default_rng(5)
    size = 200, 160
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(20, 180, 9), np.linspace(20, 140, 7)))
    moved = np.stack([1.5 + 0.02 * (x - 100) - 0.01 * (y - 80), -0.8 + 0.01 * (x - 100) + 0.02 * (y - 80)], axis=1)
    angle = rng.uniform(0, np.pi, len(x))
    normal = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    grid_y, grid_x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    off = np.stack([grid_x, grid_y], axis=-1)[None] - moved[:, None, None]
    along = (off * normal[:, None, None]).sum(axis=-1)
    surfaces = np.exp(-along * along / 4).astype(np.float32)  # a ridge: nothing is known along the edge
    found = fit(Matches(np.stack([x, y], axis=1), surfaces, size), model)
    assert found.displacement == pytest.approx(moved, abs=0.1)


def test_a_fit_without_agreement_stays_finite() -> None:
    centres = np.stack(np.meshgrid(np.arange(0.0, 100, 20), np.arange(0.0, 80, 20)), axis=-1).reshape(-1, 2)
    flat = Matches(centres, np.zeros((len(centres), 13, 13), np.float32), (100, 80))
    assert np.abs(fit(flat, "homography").displacement).max() < 0.5
