"""Whether an image is grey, in natural colours, or a thermal image in the false colours of a palette."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Pixels

ImageColour = Literal["grey", "natural", "false"]

STEP = 8  # every eighth pixel along each side
MIN_SPREAD = 0.01  # of the largest value, between the channels: more than JPEG artefacts give a grey image
MAX_DISTANCE = 20.0  # of a pixel to its palette, in 8-bit steps: compression blurs colours
MIN_SHARE = 0.9  # of the coloured pixels that are on one palette
_COLOURED = 24  # difference between channels, in 8-bit steps
_PALETTES = ("JET", "TURBO", "RAINBOW", "HOT", "INFERNO", "PLASMA", "MAGMA", "HSV")


def image_colour(pixels: Pixels) -> ImageColour:
    """The kind of HxW or HxWx3 (B, G, R) pixels, uint8 or uint16."""
    if pixels.ndim == 2:
        return "grey"
    small = pixels[::STEP, ::STEP].reshape(-1, 3).astype(np.float32) * (255 / np.iinfo(pixels.dtype).max)
    spread = small.max(axis=1) - small.min(axis=1)
    if spread.mean() <= MIN_SPREAD * 255:
        return "grey"
    coloured = small[spread > _COLOURED]
    return (
        "false"
        if len(coloured) and any(_share(coloured, palette) >= MIN_SHARE for palette in _palettes())
        else "natural"
    )


def _share(colours: NDArray[np.float32], palette: NDArray[np.float32]) -> float:
    """The share of Nx3 colours that are on the palette, of those few that are needed to tell."""
    some = colours[:: max(1, len(colours) // 1000)]
    distance = np.linalg.norm(some[:, None] - palette[None], axis=2).min(axis=1)
    return float((distance <= MAX_DISTANCE).mean())


@lru_cache(maxsize=1)
def _palettes() -> list[NDArray[np.float32]]:
    ramp = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    return [
        np.asarray(cv2.applyColorMap(ramp, getattr(cv2, f"COLORMAP_{name}")), np.float32).reshape(-1, 3)
        for name in _PALETTES
    ]
