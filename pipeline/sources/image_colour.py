"""Whether an image is grey, in natural colours, or a thermal image in the false colours of a palette.

False colours can be undone: each pixel has a place on its palette, from cold to hot. Luma has not that order, since
palettes grow darker again towards one end.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Luma8, Pixels
from fusepipe.core.image_files import is_coloured
from fusepipe.pipeline.views.palettes import palette_bgr

ImageColour = Literal["grey", "natural", "false"]

STEP = 8  # every eighth pixel along each side
MAX_DISTANCE = 20.0  # of a pixel to its palette, in 8-bit steps: compression blurs colours
MIN_SHARE = 0.9  # of the coloured pixels that are on one palette
_COLOURED = 24  # difference between channels, in 8-bit steps
_PALETTES = ("JET", "TURBO", "RAINBOW", "HOT", "INFERNO", "PLASMA", "MAGMA", "HSV")
_RED_FIRST = ("RAINBOW", "HSV")  # of OpenCV's: thermal cameras end with red
_CELLS = 64  # of each channel: colours are looked up in 64x64x64 cells


def image_colour(pixels: Pixels) -> ImageColour:
    """The kind of HxW or HxWx3 (B, G, R) pixels, uint8 or uint16."""
    if pixels.ndim == 2:
        return "grey"
    coloured = _coloured(pixels)
    if coloured is None:
        return "grey"
    return "false" if _palette_of(coloured) is not None else "natural"


def palette_places(pixels: Pixels) -> Luma8 | None:
    """HxW uint8: where each pixel of an image in false colours (HxWx3 B, G, R) is on its palette, 0 cold to 255 hot.

    ``None`` for an image that is not in the false colours of a known palette.
    """
    if pixels.ndim == 2:
        return None
    full = pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)
    coloured = _coloured(full)
    found = None if coloured is None else _palette_of(coloured)
    if found is None:
        return None
    cell = full // (256 // _CELLS)
    places = _nearest(found)[cell[..., 0], cell[..., 1], cell[..., 2]]
    # compression mixes neighbouring colours into ones that are elsewhere on the palette
    return np.asarray(cv2.medianBlur(places, 3), np.uint8)


def _coloured(pixels: Pixels) -> NDArray[np.float32] | None:
    """Nx3: those of every eighth pixel that are not grey, in 8-bit steps; ``None`` of a grey image."""
    if not is_coloured(pixels):
        return None
    colours = pixels[::STEP, ::STEP].reshape(-1, 3).astype(np.float32) * (255 / np.iinfo(pixels.dtype).max)
    return np.asarray(colours[colours.max(axis=1) - colours.min(axis=1) > _COLOURED], np.float32)


def _palette_of(coloured: NDArray[np.float32]) -> int | None:
    """The number of the palette that most of Nx3 colours are on, if it is most of them."""
    if not len(coloured):
        return None
    shares = [_share(coloured, palette) for palette in _palettes()]
    best = int(np.argmax(shares))
    return best if shares[best] >= MIN_SHARE else None


def _share(colours: NDArray[np.float32], palette: NDArray[np.float32]) -> float:
    """The share of Nx3 colours that are on the palette, of those few that are needed to tell."""
    some = colours[:: max(1, len(colours) // 1000)]
    distance = np.linalg.norm(some[:, None] - palette[None], axis=2).min(axis=1)
    return float((distance <= MAX_DISTANCE).mean())


@lru_cache(maxsize=1)
def _palettes() -> list[NDArray[np.float32]]:
    """256x3 (B, G, R), coldest first."""
    ramp = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    tables = {name: cv2.applyColorMap(ramp, getattr(cv2, f"COLORMAP_{name}")).reshape(-1, 3) for name in _PALETTES}
    return [np.asarray(table[::-1] if name in _RED_FIRST else table, np.float32) for name, table in tables.items()] + [
        palette_bgr("ironbow").astype(np.float32)
    ]


@lru_cache(maxsize=2)
def _nearest(number: int) -> NDArray[np.uint8]:
    """64x64x64: the place on a palette that is nearest to the middle of each cell of B, G and R."""
    palette = _palettes()[number]
    step = 256 // _CELLS
    axis = np.arange(_CELLS, dtype=np.float32) * step + (step - 1) / 2
    green_red = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    places = np.empty((_CELLS, _CELLS * _CELLS), np.uint8)
    for row, blue in enumerate(axis):
        colours = np.column_stack([np.full(len(green_red), blue, np.float32), green_red])
        # the squared distance without the colour's own length, which is the same for all places
        places[row] = ((palette * palette).sum(axis=1) - 2 * colours @ palette.T).argmin(axis=1)
    return places.reshape(_CELLS, _CELLS, _CELLS)
