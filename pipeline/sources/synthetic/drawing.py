"""Drawing for the synthetic world: one description of a shape, its colour and its temperature, two bands.

A :class:`Canvas` renders one band. Shapes are given in world units (x right, y down) with a :class:`Paint`, which
defines their appearance in each band; a shape without colour or temperature is invisible in that band. Pixels are
premultiplied by their opacity, so a canvas is a background or a sprite alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.synthetic.options import Light

Floats = NDArray[np.float32]
Point = tuple[float, float]
Colour = tuple[float, float, float]

_SHIFT = 4  # OpenCV draws at 1/16 of a pixel
_TILE = 256


@dataclass(frozen=True, slots=True)
class Paint:
    """The material of a shape.

    ``colour`` is R, G, B of 0..255, or a pair of them for a gradient from the shape's top to its bottom;
    ``temp`` is °C, or a pair likewise. ``None``: invisible in this band. ``glow`` is the light
    emitted at night. ``grain`` and ``mottle`` are the relative depth of
    the fine and the coarse texture of the colour; ``warmth`` is the depth of the coarse texture in kelvin.
    ``opacity`` is 0..1 in both bands.
    """

    colour: Colour | tuple[Colour, Colour] | None = None
    temp: float | tuple[float, float] | None = None
    glow: Colour | None = None
    grain: float = 0.0
    mottle: float = 0.0
    warmth: float = 0.0
    opacity: float = 1.0


@cache
def _tile() -> Floats:
    """Uniform noise of -1..1 that repeats; the same in every process."""
    random = np.random.Generator(np.random.Philox(key=20))
    return random.uniform(-1, 1, (_TILE, _TILE)).astype(np.float32)


def fractal(u: NDArray[np.floating[Any]], v: NDArray[np.floating[Any]], octaves: int = 4) -> Floats:
    """Smooth noise of about -1..1 at coordinates ``u``, ``v`` (HxW): wavelength 1 and finer ones."""
    total = np.zeros(u.shape, np.float32)
    weight = 0.5
    for octave in range(octaves):
        # Taken modulo here: remap's own coordinates are 16-bit.
        x = np.mod(u * np.float32(2**octave) + np.float32(37 * octave), _TILE).astype(np.float32)
        y = np.mod(v * np.float32(2**octave) + np.float32(91 * octave), _TILE).astype(np.float32)
        total += weight * cv2.remap(_tile(), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        weight *= 0.6
    return total


def circle(centre: Point, rx: float, ry: float | None = None, sides: int = 28) -> list[Point]:
    """The corners of an ellipse."""
    angles = np.arange(sides) * (2 * np.pi / sides)
    ry = rx if ry is None else ry
    return [(centre[0] + rx * float(np.cos(a)), centre[1] + ry * float(np.sin(a))) for a in angles]


def limb(start: Point, end: Point, r0: float, r1: float) -> list[Point]:
    """The outline of a round-ended bar that is ``r0`` thick at one end and ``r1`` at the other (radii)."""
    points = np.array(circle(start, r0, sides=14) + circle(end, r1, sides=14), np.float32)
    return [(float(x), float(y)) for x, y in cv2.convexHull(points)[:, 0]]


def smooth(points: Sequence[Point], steps: int = 6) -> list[Point]:
    """A closed Catmull-Rom curve through the points."""
    knots = np.array(points, np.float64)
    before, after, beyond = np.roll(knots, 1, 0), np.roll(knots, -1, 0), np.roll(knots, -2, 0)
    curve = []
    for t in np.arange(steps) / steps:
        curve.append(
            0.5
            * (
                2 * knots
                + (after - before) * t
                + (2 * before - 5 * knots + 4 * after - beyond) * t**2
                + (3 * knots - before - 3 * after + beyond) * t**3
            )
        )
    return [(float(x), float(y)) for x, y in np.stack(curve, 1).reshape(-1, 2)]


class Canvas:
    """The image of a rectangle of the world in one band, at ``scale`` pixels per unit.

    ``pixels`` is 4xHxW float32 (R, G, B, opacity) for visible, 2xHxW (°C, opacity) for infrared, both
    premultiplied; ``glow`` is 3xHxW, the light sent out by night. The pixel centre (i, j) is the world point
    ``(left + i / scale, top + j / scale)``. ``lean`` moves a point sideways: ``x += lean(y)``, the
    parallax of the ground.
    """

    def __init__(
        self, band: Band, light: Light, left: float, top: float, right: float, bottom: float, scale: float
    ) -> None:
        self.band, self.light = band, light
        self.left, self.top, self.scale = left, top, scale
        width = max(2, int(np.ceil((right - left) * scale)) + 1)
        height = max(2, int(np.ceil((bottom - top) * scale)) + 1)
        self.pixels: Floats = np.zeros((4 if band is Band.VISIBLE else 2, height, width), np.float32)
        self.glow: Floats = np.zeros((3, height, width), np.float32)
        self.lean_from, self.lean_slope = 0.0, 0.0
        # ground position of the object being drawn: all of it has the parallax of its foot
        self.standing: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in its pixels."""
        return self.pixels.shape[2], self.pixels.shape[1]

    @property
    def everywhere(self) -> tuple[slice, slice]:
        """The rows and columns of all of it."""
        return slice(0, self.pixels.shape[1]), slice(0, self.pixels.shape[2])

    @property
    def to_world(self) -> NDArray[np.float64]:
        """3x3: canvas pixels to world units."""
        return np.array([[1 / self.scale, 0, self.left], [0, 1 / self.scale, self.top], [0, 0, 1]])

    def lean(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much points at height ``y`` move sideways."""
        if self.standing is not None:
            y = np.full_like(y, self.standing)
        return self.lean_slope * np.maximum(y - self.lean_from, 0.0)

    def grid(self, rows: slice, columns: slice) -> tuple[Floats, Floats]:
        """World x and y (HxW each) of a part of the canvas, parallax undone."""
        x = self.left + np.arange(columns.start, columns.stop) / self.scale
        y = self.top + np.arange(rows.start, rows.stop) / self.scale
        xs, ys = np.meshgrid(x, y)
        xs -= self.lean(ys)
        return xs.astype(np.float32), ys.astype(np.float32)

    def poly(self, points: Sequence[Point], paint: Paint) -> None:
        """Fills a polygon, its edges smooth."""
        if not self.sees(paint):
            return
        world = np.array(points, np.float64)
        world[:, 0] += self.lean(world[:, 1])
        at = (world - (self.left, self.top)) * self.scale
        low = np.maximum(np.floor(at.min(0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(at.max(0)).astype(int) + 2, self.size)
        if (high <= low).any():
            return
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        corners = np.round((at - low) * 2**_SHIFT).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, _SHIFT)
        span = (float(at[:, 1].min()), float(at[:, 1].max()))
        self.fill(
            slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])), mask * np.float32(1 / 255), paint, span
        )

    def rect(self, x0: float, y0: float, x1: float, y1: float, paint: Paint) -> None:
        """Fills a rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], paint)

    def ellipse(self, centre: Point, rx: float, ry: float, paint: Paint) -> None:
        """Fills an ellipse."""
        self.poly(circle(centre, rx, ry), paint)

    def soft(self, centre: Point, rx: float, ry: float, paint: Paint, power: float = 1.5) -> None:
        """An ellipse that fades towards its edge as ``(1 - r^2)^power``: shadows, warm spots, lamplight."""
        if not self.sees(paint):
            return
        x = (centre[0] + float(self.lean(np.array([centre[1]]))[0]) - self.left) * self.scale
        y = (centre[1] - self.top) * self.scale
        rx, ry = rx * self.scale, ry * self.scale
        columns = slice(max(0, int(x - rx)), min(self.size[0], int(x + rx) + 2))
        rows = slice(max(0, int(y - ry)), min(self.size[1], int(y + ry) + 2))
        if columns.stop <= columns.start or rows.stop <= rows.start:
            return
        across = (np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(x)) / np.float32(rx)
        down = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(y)) / np.float32(ry)
        mask = np.maximum(1 - across[None] ** 2 - down[:, None] ** 2, 0).astype(np.float32) ** np.float32(power)
        self.fill(rows, columns, mask, paint, (y - ry, y + ry))

    def text(
        self, words: str, left: float, base: float, height: float, paint: Paint, *, mirrored: bool = False
    ) -> None:
        """Writes ``words`` with capital letters ``height`` units high, from ``left`` on the line ``base``.

        ``mirrored`` is for what is shown mirrored itself, as a vehicle that drives to the left.
        """
        if not self.sees(paint):
            return
        font, thickness = cv2.FONT_HERSHEY_DUPLEX, 2
        (width, full), below = cv2.getTextSize(words, font, 1.0, thickness)
        stencil = np.zeros((full + below + 8, width + 8), np.uint8)
        cv2.putText(stencil, words, (4, full + 4), font, 1.0, 255, thickness, cv2.LINE_AA)
        if mirrored:
            stencil = np.ascontiguousarray(stencil[:, ::-1])
        zoom = height / full * self.scale
        x, y = (left - self.left) * self.scale - 4 * zoom, (base - self.top) * self.scale - (full + 4) * zoom
        columns = slice(max(0, int(x)), min(self.size[0], int(x + stencil.shape[1] * zoom) + 2))
        rows = slice(max(0, int(y)), min(self.size[1], int(y + stencil.shape[0] * zoom) + 2))
        if columns.stop <= columns.start or rows.stop <= rows.start:
            return
        if zoom < 1:  # thin strokes survive shrinking only if averaged first
            stencil = cv2.GaussianBlur(stencil, (0, 0), 0.35 / zoom)
        to = np.array([[zoom, 0, x - columns.start], [0, zoom, y - rows.start]])
        mask = cv2.warpAffine(stencil, to, (columns.stop - columns.start, rows.stop - rows.start))
        self.fill(rows, columns, mask * np.float32(1 / 255), paint, (0.0, 1.0))

    def sees(self, paint: Paint) -> bool:
        """Whether this band has anything to draw of it."""
        if self.band is Band.INFRARED:
            return paint.temp is not None
        return paint.colour is not None or (paint.glow is not None and self.light == "night")

    def fill(self, rows: slice, columns: slice, mask: Floats, paint: Paint, span: tuple[float, float]) -> None:
        """Paints a part of the canvas through ``mask`` (HxW, 0..1); gradients run over rows ``span``."""
        cover = mask * np.float32(paint.opacity)
        texture = self._texture(rows, columns, paint)
        if self.band is Band.VISIBLE and paint.colour is None:
            # Light alone hides nothing: it is added.
            for glow, value in zip(self.glow, paint.glow or (), strict=True):
                glow[rows, columns] += cover * np.float32(value)
            return
        through = 1 - cover
        ramp = (np.arange(rows.start, rows.stop, dtype=np.float32) - span[0]) / max(span[1] - span[0], 1e-6)
        ramp = np.clip(ramp, 0, 1)[:, None]
        for plane, (first, last) in zip(self.pixels[:-1], self._ends(paint), strict=True):
            part = plane[rows, columns]
            part *= through
            level = first + np.float32(last - first) * ramp
            if texture is not None:
                level = level + texture if self.band is Band.INFRARED else level * (1 + texture)
            part += level * cover
        opacity = self.pixels[-1, rows, columns]
        opacity *= through
        opacity += cover
        if self.light == "night" and self.band is Band.VISIBLE:
            for glow, value in zip(self.glow, paint.glow or (0.0, 0.0, 0.0), strict=True):
                part = glow[rows, columns]
                part *= through
                part += cover * np.float32(value)

    def _ends(self, paint: Paint) -> list[tuple[np.float32, np.float32]]:
        """The value at the top and the bottom of each of the band's channels."""
        what = paint.temp if self.band is Band.INFRARED else paint.colour
        ends = np.array(what, np.float32).reshape(-1, len(self.pixels) - 1)
        return list(zip(ends[0], ends[-1], strict=True))

    def _texture(self, rows: slice, columns: slice, paint: Paint) -> Floats | None:
        infrared = self.band is Band.INFRARED
        fine, coarse = (0.0, paint.warmth) if infrared else (paint.grain, paint.mottle)
        if not fine and not coarse:
            return None
        x, y = self.grid(rows, columns)
        total = np.zeros(x.shape, np.float32)
        if fine:
            total += fine * fractal(x / 3, y / 3, 3)
        if coarse:
            total += coarse * fractal(x / 40, y / 40, 4)
        return total
