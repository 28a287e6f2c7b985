"""The displaced warp: its map follows the displacement, and is left alone for the noise of the field."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fusepipe.calibration.parallax.displaced_warp import DisplacedWarp
from fusepipe.calibration.parallax.local_alignment import cells_of
from fusepipe.calibration.warp import RemapWarp

SIZE = (320, 240)
RAMP = np.tile((np.arange(SIZE[0]) * 100).astype(np.uint16), (SIZE[1], 1))


def identity() -> DisplacedWarp:
    return DisplacedWarp(RemapWarp(np.eye(3), SIZE, SIZE, whole_view=True), SIZE)


def field(warp: DisplacedWarp, right_px: float) -> NDArray[np.float32]:
    columns, rows = cells_of(warp.shrunk_size)
    cells = np.zeros((rows, columns, 2), np.float32)
    cells[..., 0] = right_px / SIZE[0]
    return cells


def shifts(warp: DisplacedWarp) -> NDArray[np.float64]:
    """HxW: how far to the right of each pixel the warp samples."""
    return np.asarray(warp.apply(RAMP), np.float64) / 100 - np.arange(SIZE[0])


def test_the_map_follows_displacements_but_not_their_noise() -> None:
    warp = identity()
    assert not warp.displace(None) and not warp.displace(field(warp, 0.0))
    assert warp.displace(field(warp, 3.0)) and shifts(warp)[100:140, 100:200] == pytest.approx(3.0, abs=0.05)
    assert not warp.displace(field(warp, 3.2)) and shifts(warp)[100:140, 100:200] == pytest.approx(3.0, abs=0.05)
    assert warp.displace(field(warp, 3.4)), "small steps add up"
    assert shifts(warp)[100:140, 100:200] == pytest.approx(3.4, abs=0.05)
    assert warp.displace(None) and np.abs(shifts(warp)).max() < 0.05


def test_a_small_object_that_moves_is_followed() -> None:
    warp = identity()
    warp.displace(field(warp, 1.0))
    moved = field(warp, 1.0)
    moved[5, 7, 0] = 4.0 / SIZE[0]  # one of 192 cells
    assert warp.displace(moved) and shifts(warp)[:, 100:200].max() > 3


def test_shrunk_images_are_where_the_displacement_says() -> None:
    """Of an infrared camera whose pixels are 2.6 times as small as those that are compared."""
    size = (416, 312)
    warp = DisplacedWarp(RemapWarp(np.diag([320 / 416, 240 / 312, 1.0]), size, SIZE, whole_view=True), size)
    ramp = np.tile((np.arange(size[0]) * 100).astype(np.uint16), (size[1], 1))
    plain = warp.shrunk(ramp)
    warp.displace(field(warp, 6.0))
    assert (warp.shrunk(ramp) - plain)[20:100, 20:130] == pytest.approx(6.0 * 416 / 320 * 100, rel=0.02)
    centres = ((np.arange(160) + 0.5) * 2.6 - 0.5) * 100
    assert np.abs(plain[60, 5:-5] - centres[5:-5]).max() < 60, "within half an infrared pixel"
