"""Text and lines on an image of Y, Cb, Cr planes: white on black or black on white, readable on anything."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from fusepipe.core.planes import Luma8
from fusepipe.pipeline.views.panels import NEUTRAL, Panel, PlaneFormat

Anchor = Literal["left", "right"]
FONT = cv2.FONT_HERSHEY_SIMPLEX
TEXT = 1 / 900  # size of text, as a share of the height
MIN_SCALE = 0.4  # below this OpenCV's font cannot be read


class Ink:
    """Draws on copies of a panel's planes; positions are (x, y) in pixels of its luma and may be anywhere."""

    def __init__(self, panel: Panel, form: PlaneFormat) -> None:
        self.luma = panel.luma.copy()
        self._chroma = None if panel.chroma is None else tuple(plane.copy() for plane in panel.chroma)
        self._dark, self._light = form.level(0), form.level(255)
        self.scale = max(MIN_SCALE, self.luma.shape[0] * TEXT)
        self.thick = max(1, round(self.scale))
        self.pad = max(2, round(4 * self.scale))

    def panel(self) -> Panel:
        return Panel(self.luma, None if self._chroma is None else (self._chroma[0], self._chroma[1]))

    def text_size(self, text: str) -> tuple[int, int]:
        """(width, height) of a line with its box."""
        (width, height), below = cv2.getTextSize(text, FONT, self.scale, self.thick)
        return width + 2 * self.pad, height + below + 2 * self.pad

    def text(self, text: str, x: int, y: int, anchor: Anchor = "left") -> None:
        """One line in a black box whose upper left (or right) corner is at (x, y), moved into the image."""
        width, height = self.text_size(text)
        left = min(max(0, x if anchor == "left" else x - width), max(0, self.luma.shape[1] - width))
        top = min(max(0, y), max(0, self.luma.shape[0] - height))
        self._grey(left, top, left + width, top + height)
        self.luma[top : top + height, left : left + width] = self._dark
        (_, ascent), _ = cv2.getTextSize(text, FONT, self.scale, self.thick)
        at = (left + self.pad, top + self.pad + ascent)
        cv2.putText(self.luma, text, at, FONT, self.scale, self._light, self.thick, cv2.LINE_AA)

    def cross(self, x: int, y: int) -> None:
        """A cross around a pixel, which stays visible."""
        gap, arm = 3 * self.thick + 1, 8 * self.thick + self.pad
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            self._line((x + gap * dx, y + gap * dy), (x + arm * dx, y + arm * dy))

    def rectangle(self, left: int, top: int, right: int, bottom: int) -> None:
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        for one, other in zip(corners, corners[1:] + corners[:1], strict=True):
            self._line(one, other)

    def paste(self, left: int, top: int, part: Panel) -> None:
        """An image with its upper left corner at an even (left, top), cut where it leaves the image."""
        height, width = part.luma.shape
        place = self.luma[top : top + height, left : left + width]
        place[:] = part.luma[: place.shape[0], : place.shape[1]]
        if self._chroma is None:
            return
        across, down = self._steps(self._chroma[0])
        for plane, other in zip(self._chroma, part.coloured(), strict=True):
            place = plane[top // down : (top + height) // down, left // across : (left + width) // across]
            place[:] = cv2.resize(other, (place.shape[1], place.shape[0]), interpolation=cv2.INTER_NEAREST)

    def _line(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        """White with a black border, without colour."""
        edge = self.thick + 1
        xs, ys = sorted((one[0], other[0])), sorted((one[1], other[1]))
        self._grey(xs[0] - edge, ys[0] - edge, xs[1] + edge + 1, ys[1] + edge + 1)
        cv2.line(self.luma, one, other, self._dark, self.thick + 2)
        cv2.line(self.luma, one, other, self._light, self.thick)

    def _grey(self, left: int, top: int, right: int, bottom: int) -> None:
        if self._chroma is None:
            return
        across, down = self._steps(self._chroma[0])
        for plane in self._chroma:
            rows = slice(max(0, top // down), max(0, -(-bottom // down)))
            plane[rows, max(0, left // across) : max(0, -(-right // across))] = NEUTRAL

    def _steps(self, plane: Luma8) -> tuple[int, int]:
        """Luma pixels of a chroma sample, across and down."""
        height, width = self.luma.shape
        return round(width / plane.shape[1]), round(height / plane.shape[0])


def gradient(height: int, width: int) -> Luma8:
    """HxW uint8 that falls from 255 in the first row to 0 in the last."""
    return np.repeat(np.linspace(255, 0, height).round().astype(np.uint8)[:, None], width, axis=1)
