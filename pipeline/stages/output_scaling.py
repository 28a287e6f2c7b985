"""Keeps the output's size and colour constant while live cameras come, go and change their size.

Encoders, players and the compiled network want one size. The output takes that of the first visible picture, or
the one that ``output.size`` says; later ones of another size are scaled to it. Registration maps relative
to the picture's sides, so a camera that restarts with another resolution and the same view stays registered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from fusepipe.core.frames import Frame, FramePair, Pixels, Plane

SHAPE_TOLERANCE = 0.02


class OutputScaler:
    """Scales visible frames to one size; a transform of the graph, before registration.

    ``size`` is (width, height), ``None`` until the first visible picture tells; ``colour`` whether there are chroma
    planes, likewise. ``warn`` is told about a change once each.
    """

    def __init__(self, size: tuple[int, int] | None, colour: bool | None, warn: Callable[[str], None]) -> None:
        self.size = size
        self._colour = colour
        self._warn = warn
        self._seen: set[tuple[int, int]] = set()

    def __call__(self, pair: FramePair) -> FramePair:
        frame = pair.visible
        if frame is None:
            return pair
        size = (frame.width, frame.height)
        if self.size is None:
            self.size = size
        if self._colour is None:
            self._colour = bool(frame.chroma)
        if size != self.size and size not in self._seen and len(self._seen) < 16:
            self._seen.add(size)
            self._tell(size, self.size)
        if size == self.size and bool(frame.chroma) == self._colour:
            return pair
        return replace(pair, visible=_fitted(frame, self.size, self._colour))

    def _tell(self, size: tuple[int, int], canvas: tuple[int, int]) -> None:
        text = f"visible: the picture is now {size[0]}x{size[1]}; it is scaled to the output's {canvas[0]}x{canvas[1]}"
        if abs(size[0] * canvas[1] / (size[1] * canvas[0]) - 1) > SHAPE_TOLERANCE:
            text += ", which has another shape: check that the calibration still fits"
        self._warn(text)


def _fitted(frame: Frame, size: tuple[int, int], colour: bool) -> Frame:
    """The frame at ``size`` (width, height), with 4:2:0 chroma if ``colour``, else without."""
    luma = frame.luma
    planes = [Plane(_scaled(luma.pixels, size), luma.bit_depth, luma.value_range)]
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    if colour and frame.chroma:
        planes += [Plane(_scaled(p.pixels, half), p.bit_depth, p.value_range) for p in frame.chroma]
    elif colour:
        planes += [Plane(np.full(half[::-1], 128, np.uint8), 8, luma.value_range)] * 2
    return replace(frame, planes=tuple(planes))


def _scaled(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    height, width = pixels.shape
    if (width, height) == size:
        return pixels
    way = cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR
    scaled: Pixels = cv2.resize(pixels, size, interpolation=way)
    return scaled
