"""The images a view is composed of: the visible, the infrared and the fused one, as 8-bit Y, Cb, Cr of one format."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fusepipe.core.frames import Frame, FusedFrame, Matrix, Plane, ValueRange
from fusepipe.core.levels import full_range_luma, luma_to_limited
from fusepipe.core.planes import Luma8
from fusepipe.core.view_settings import Palette
from fusepipe.pipeline.views.palettes import looked_up, palette_tables

MISSING = 96  # full-range grey of an image that is missing
NEUTRAL = 128  # chroma of grey


@dataclass(frozen=True, slots=True)
class PlaneFormat:
    """The value range and matrix of an output, and whether it has colour; the same for all of its frames."""

    value_range: ValueRange
    matrix: Matrix
    colour: bool

    def level(self, full: int) -> int:
        """A full-range level in the value range of the output."""
        return int(luma_to_limited()[full]) if self.value_range == "limited" else full


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """``luma`` is HxW uint8, ``chroma`` Cb and Cr, uint8; ``None``: grey.

    Chroma is at 4:2:0, (H + 1) // 2 x (W + 1) // 2, of a panel that is composed with others.
    """

    luma: Luma8
    chroma: tuple[Luma8, Luma8] | None = None

    @property
    def half(self) -> tuple[int, int]:
        """(width, height) of chroma."""
        return half_of(self.luma)

    def coloured(self) -> tuple[Luma8, Luma8]:
        """``chroma``, neutral for grey."""
        if self.chroma is not None:
            return self.chroma
        neutral = np.full(self.half[::-1], NEUTRAL, np.uint8)
        return neutral, neutral


def half_of(luma: Luma8) -> tuple[int, int]:
    """(width, height) of the chroma planes of a luma plane at 4:2:0."""
    return (luma.shape[1] + 1) // 2, (luma.shape[0] + 1) // 2


def resized(pixels: Luma8, size: tuple[int, int]) -> Luma8:
    """HxW uint8 at (width, height): averaged where it shrinks, else interpolated; unchanged at its own size."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    interpolation = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), np.uint8)


def missing(frame: FusedFrame, form: PlaneFormat) -> Panel:
    """A grey image in place of a missing one."""
    return Panel(np.full((frame.height, frame.width), form.level(MISSING), np.uint8))


def panel_of(image: Frame | FusedFrame, size: tuple[int, int], form: PlaneFormat, *, own_chroma: bool = False) -> Panel:
    """A frame at (width, height) in the output's format; its own pixels where they fit.

    Chroma is at 4:2:0 or, with ``own_chroma``, as the frame has it.
    """
    luma = resized(_luma(image.planes[0], form.value_range), size)
    if len(image.planes) == 1 or not form.colour:
        return Panel(luma)
    cb, cr = (np.asarray(plane.pixels, np.uint8) for plane in image.planes[1:])
    if own_chroma and (image.width, image.height) == size:
        return Panel(luma, (cb, cr))
    half = half_of(luma)
    return Panel(luma, (resized(cb, half), resized(cr, half)))


def _luma(plane: Plane, value_range: ValueRange) -> Luma8:
    if plane.pixels.dtype == np.uint8 and plane.value_range == value_range:
        return np.asarray(plane.pixels, np.uint8)
    full = full_range_luma(plane)
    return looked_up(full, luma_to_limited()) if value_range == "limited" else full


def infrared_luma(frame: FusedFrame) -> Luma8 | None:
    """HxW uint8, full range, at the frame's size: as it was fused, or unregistered if there is no registration."""
    pair = frame.pair
    if (plane := pair.registered_luma()) is not None:
        luma = full_range_luma(plane)
    elif pair.infrared is not None:
        luma = full_range_luma(pair.infrared.luma)
    else:
        return None
    return resized(luma, (frame.width, frame.height))


def false_colours(infrared: Luma8, palette: Palette, form: PlaneFormat, outside: Luma8 | None = None) -> Panel:
    """Full-range infrared luma, HxW, in a palette; black where ``outside``, HxW, is 255.

    Chroma is that of the mean infrared level of its four pixels.
    """
    tables = palette_tables(palette, form.matrix, form.value_range)
    luma = infrared if tables.identity else looked_up(infrared, tables.luma)
    if outside is not None:
        luma = np.where(outside == 255, np.uint8(form.level(0)), luma)
    if not tables.coloured:
        return Panel(luma)
    half = half_of(luma)
    small = resized(infrared, half)
    cb, cr = looked_up(small, tables.cb), looked_up(small, tables.cr)
    if outside is not None:
        dark = resized(outside, half) == 255
        cb, cr = (np.where(dark, np.uint8(NEUTRAL), chroma) for chroma in (cb, cr))
    return Panel(luma, (cb, cr))
