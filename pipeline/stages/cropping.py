"""Crops registered pairs to the common field of view of both cameras, before fusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.common_view import Rectangle
from fusepipe.core.frames import Frame, FramePair, Luma8, Pixels, Plane, Size, Warp


@dataclass(frozen=True, slots=True, eq=False)
class CroppedWarp:
    """A warp restricted to a rectangle of the visible frame."""

    whole: Warp
    rectangle: Rectangle
    valid: Luma8 | None

    @property
    def version(self) -> str:
        return f"{self.whole.version}-{self.rectangle.left}-{self.rectangle.top}"

    @property
    def scale(self) -> float:
        return self.whole.scale

    @property
    def sampling_grid(self) -> NDArray[np.float32]:
        part = self.rectangle
        return self.whole.sampling_grid[part.top : part.top + part.height, part.left : part.left + part.width]

    def prefilter(self, pixels: Pixels) -> Pixels:
        return self.whole.prefilter(pixels)

    def apply(self, pixels: Pixels) -> Pixels:
        return self.rectangle.cut(self.whole.apply(pixels))


class CommonViewCrop:
    """A transform of pairs: all frames of one size are cropped to the same rectangle, even if the warp changes later.

    A video has a fixed size: where a drift correction or another plane distance moves the infrared view out of the
    rectangle, the visible image is shown, as without cropping. ``rectangle`` returns the rectangle for a (width,
    height) of visible frames.
    """

    def __init__(self, rectangle: Callable[[Size], Rectangle]) -> None:
        self._rectangle = rectangle
        self._known: dict[Size, Rectangle] = {}
        self._warp: CroppedWarp | None = None

    def at(self, size: Size) -> Rectangle:
        """The rectangle for visible frames of this (width, height)."""
        if size not in self._known:
            self._known[size] = self._rectangle(size)
        return self._known[size]

    def __call__(self, pair: FramePair) -> FramePair:
        size = _size(pair)
        if size is None or (rectangle := self.at(size)).size == size:
            return pair
        # an engine that warps takes the whole infrared image
        whole = pair.engine_warps
        return replace(
            pair,
            visible=None if pair.visible is None else _frame(pair.visible, rectangle),
            registered=pair.registered if whole or pair.registered is None else _plane(pair.registered, rectangle),
            luma=pair.luma if whole or pair.luma is None else _plane(pair.luma, rectangle),
            warp=None if pair.warp is None else self._cropped(pair.warp, rectangle),
        )

    def _cropped(self, warp: Warp, rectangle: Rectangle) -> CroppedWarp:
        last = self._warp
        if last is None or last.whole is not warp or last.rectangle != rectangle:
            valid = None if warp.valid is None else np.asarray(rectangle.cut(warp.valid), np.uint8)
            last = self._warp = CroppedWarp(warp, rectangle, None if valid is None or (valid == 255).all() else valid)
        return last


def _size(pair: FramePair) -> Size | None:
    """The (width, height) of the pair in the visible camera's geometry."""
    if pair.visible is not None:
        return pair.visible.width, pair.visible.height
    if pair.engine_warps and pair.warp is not None:
        return pair.warp.sampling_grid.shape[1], pair.warp.sampling_grid.shape[0]
    return None if pair.registered is None else (pair.registered.width, pair.registered.height)


def _frame(frame: Frame, rectangle: Rectangle) -> Frame:
    luma = frame.luma
    parts = [_plane(luma, rectangle)]
    for chroma in frame.chroma:
        across, down = (
            round(whole / part) for whole, part in ((luma.width, chroma.width), (luma.height, chroma.height))
        )
        parts.append(_plane(chroma, rectangle, across, down))
    return replace(frame, planes=tuple(parts))


def _plane(plane: Plane, rectangle: Rectangle, across: int = 1, down: int = 1) -> Plane:
    """A copy: encoders and networks need contiguous rows."""
    pixels: Pixels = rectangle.cut(plane.pixels, across, down).copy()
    return Plane(pixels, plane.bit_depth, plane.value_range, plane.device)
