"""Palettes of infrared views, as look-up tables from 8-bit infrared luma to Y, Cb and Cr.

``white-hot`` and ``black-hot`` are grey. ``inferno``, ``magma``, ``viridis`` (Smith and van der Walt, 2015) and
``cividis`` (Nunez, Anderton and Renslow, PLoS ONE 13(7), 2018) are perceptually uniform: equal steps of the infrared
image look equally large, also in grey and to most colour-blind people. ``ironbow`` is the customary palette of
thermal cameras: its luma rises throughout, not uniformly. ``rainbow`` is Turbo (Mikhailov, Google, 2019), whose luma
falls again above the middle: for comparing with other programs, not for finding things.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.colour import bgr_to_ycc
from fusepipe.core.planes import Luma8, Matrix, ValueRange
from fusepipe.core.view_settings import Palette

Table = NDArray[np.uint8]

_OPENCV = {
    "inferno": cv2.COLORMAP_INFERNO,
    "magma": cv2.COLORMAP_MAGMA,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "cividis": cv2.COLORMAP_CIVIDIS,
    "rainbow": cv2.COLORMAP_TURBO,
}
# level and R, G, B of the points between which ironbow is linear: black, blue, purple, orange, yellow, white
_IRONBOW = (
    (0, (0, 0, 10)),
    (32, (20, 0, 110)),
    (80, (120, 0, 155)),
    (128, (200, 40, 100)),
    (168, (235, 95, 15)),
    (208, (250, 170, 10)),
    (236, (255, 225, 90)),
    (255, (255, 255, 246)),
)


@dataclass(frozen=True, slots=True, eq=False)
class PaletteTables:
    """256 entries each: full-range infrared luma to the value range and matrix of the output.

    ``coloured`` is false for a grey palette, whose chroma is 128 throughout; ``identity`` where ``luma`` changes
    nothing.
    """

    luma: Table
    cb: Table
    cr: Table
    coloured: bool
    identity: bool


@cache
def palette_tables(palette: Palette, matrix: Matrix, value_range: ValueRange) -> PaletteTables:
    """The tables of a palette (not ``auto``). Raises ``ValueError`` for an unknown one."""
    luma, cb, cr = np.rollaxis(bgr_to_ycc(palette_bgr(palette), matrix, value_range), 1)
    coloured = palette not in ("white-hot", "black-hot")
    identity = bool((luma == np.arange(256)).all())
    return PaletteTables(luma.copy(), cb.copy(), cr.copy(), coloured, identity)


@cache
def palette_bgr(palette: Palette) -> NDArray[np.uint8]:
    """256x3 uint8 (B, G, R), coldest first."""
    ramp = np.arange(256, dtype=np.uint8)
    if palette == "white-hot":
        return np.repeat(ramp[:, None], 3, axis=1)
    if palette == "black-hot":
        return np.repeat(ramp[::-1, None], 3, axis=1)
    if palette == "ironbow":
        levels = [level for level, _ in _IRONBOW]
        channels = [np.interp(ramp, levels, [rgb[i] for _, rgb in _IRONBOW]) for i in (2, 1, 0)]
        return np.stack(channels, axis=1).round().astype(np.uint8)
    if palette not in _OPENCV:
        raise ValueError(f"{palette = } is none of white-hot, black-hot, ironbow, {', '.join(_OPENCV)}")
    return np.asarray(cv2.applyColorMap(ramp[:, None], _OPENCV[palette])[:, 0], np.uint8)


def looked_up(pixels: Luma8, table: Table) -> Luma8:
    """HxW uint8 through a table of 256 entries."""
    return np.asarray(cv2.LUT(pixels, table), np.uint8)
