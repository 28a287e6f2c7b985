"""Keeps size and colour of the output constant while cameras reconnect and videos change their resolution.

Encoders, players and compiled networks need a fixed size. The output has that of the first visible frame, or
``output.size``; frames of another size are scaled. Registration is relative to the frame size, so a camera that
restarts with another resolution and the same field of view stays registered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from fusepipe.calibration.matrix import ASPECT_TOLERANCE
from fusepipe.core.frames import Frame, FramePair, Pixels, Plane


class OutputScaler:
    """Scales visible frames to one size; a transform of pairs, before registration.

    ``size`` is (width, height), ``None`` until the first visible frame; ``colour`` is whether there are chroma planes,
    likewise. ``warn`` is called once for each new size.
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
            self._report_size(size, self.size)
        if size == self.size and bool(frame.chroma) == self._colour:
            return pair
        return replace(pair, visible=_scaled_frame(frame, self.size, self._colour))

    def _report_size(self, size: tuple[int, int], output: tuple[int, int]) -> None:
        text = f"visible: frame size changed to {size[0]}x{size[1]}; scaled to the output's {output[0]}x{output[1]}"
        if abs(size[0] * output[1] / (size[1] * output[0]) - 1) > ASPECT_TOLERANCE:
            text += ", which has another aspect ratio: check that the calibration still applies"
        self._warn(text)


def _scaled_frame(frame: Frame, size: tuple[int, int], colour: bool) -> Frame:
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
    interpolation = cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR
    scaled: Pixels = cv2.resize(pixels, size, interpolation=interpolation)
    return scaled
