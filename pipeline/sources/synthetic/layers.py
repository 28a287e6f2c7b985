"""Sprites in a form for fast compositing: integer rasters that are warped and blended.

A layer is one sprite for one group of planes. Its pixels are premultiplied by their opacity, so compositing is
``plane * (1 - opacity) + value``; emitted light, which occludes nothing, is ``plane + value``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Pixels
from fusepipe.pipeline.sources.synthetic.drawing import Canvas, Floats
from fusepipe.pipeline.sources.synthetic.street_objects import Placement
from fusepipe.pipeline.sources.synthetic.truth import Matrix33

_Raster = NDArray[np.integer[Any]]
_Affine = tuple[float, float, float, float, float, float]


@dataclass(slots=True)
class Layer:
    """One sprite for the planes ``group`` of a image.

    ``pixels`` is HxWx4 or HxW: premultiplied values, one a plane, then their opacity (0 to the type's
    maximum), then unused channels: OpenCV warps 1 and 4 channels far quicker than 2 and 3. ``light``: light to
    add (int16), without opacity. Its pixel (i, j) is at ``(left + i / density, top + j / density)`` metres.
    ``camera`` maps world units to pixels of these planes. ``zero`` is the value that means none (128 for
    chroma): it is what fading light leaves behind.
    """

    group: tuple[int, ...]
    pixels: _Raster
    left: float
    top: float
    density: float
    camera: _Affine
    zero: float = 0.0
    light: bool = False
    # a static object is warped once
    _at: _Affine | None = field(default=None, repr=False)
    _warped: Sequence[NDArray[Any]] = field(default=(), repr=False)

    def lay(self, planes: list[Pixels], placed: Placement, shift: float, lit: float) -> None:
        """Composites it onto the planes, in place, at ``placed``, ``shift`` world units to the right.

        ``lit`` is the share of daylight on it.
        """
        at = self._to_plane(placed, shift)
        a, b, tx, c, d, ty = at
        height, width = planes[self.group[0]].shape
        rows, columns = self.pixels.shape[:2]
        x0 = max(0, int(tx + min(a * columns, -a) + min(b * rows, -b)) - 1)
        x1 = min(width, int(tx + max(a * columns, -a) + max(b * rows, -b)) + 2)
        y0 = max(0, int(ty + min(c * columns, -c) + min(d * rows, -d)) - 1)
        y1 = min(height, int(ty + max(c * columns, -c) + max(d * rows, -d)) + 2)
        if x1 <= x0 or y1 <= y0:
            return
        if at != self._at:
            local = np.array([[a, b, tx - x0], [c, d, ty - y0]])
            self._at = at
            self._warped = cv2.split(cv2.warpAffine(self.pixels, local, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR))
        parts = [planes[index][y0:y1, x0:x1] for index in self.group]
        if self.light:
            for part, value in zip(parts, self._warped, strict=False):
                cv2.add(part, value, dst=part, dtype=cv2.CV_8U)
            return
        cover = self._warped[len(parts)]
        most = 255.0 if cover.dtype == np.uint8 else 65535.0
        opacity = placed.opacity
        through = cv2.addWeighted(cover, -opacity, cover, 0.0, most)
        for part, value in zip(parts, self._warped, strict=False):
            if lit != 1.0 or opacity != 1.0:
                left_over = (1 - lit) * opacity * self.zero / most
                value = cv2.addWeighted(value, lit * opacity, cover, left_over, 0.0)
            cv2.multiply(part, through, dst=part, scale=1 / most)
            cv2.add(part, value, dst=part)

    def _to_plane(self, placed: Placement, shift: float) -> _Affine:
        """Its pixels to pixels of the planes; written out, because it is needed a few dozen times a frame."""
        step = placed.metre / self.density
        x = placed.metre * placed.facing * self.left + placed.x + shift
        y = placed.metre * self.top + placed.y
        c00, c01, c02, c10, c11, c12 = self.camera
        along = step * placed.facing
        return (c00 * along, c01 * step, c00 * x + c01 * y + c02, c10 * along, c11 * step, c10 * x + c11 * y + c12)


def ycbcr(rgb: Floats, zero: float = 128.0) -> Floats:
    """HxWx3 R, G, B to full-range BT.601 Y, Cb, Cr (ITU-R BT.601-7, 2.5; JFIF 1.02, section 7)."""
    to = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
    out = np.asarray(cv2.transform(rgb, to), np.float32)
    out[..., 1:] += np.float32(zero)
    return out


def heat_layer(canvas: Canvas, camera: Matrix33, depth: int) -> Layer:
    """An infrared sprite; the canvas holds pixel values already, premultiplied."""
    most = 65535.0 if depth == 16 else 255.0
    value, cover = canvas.pixels
    # Saturation is the sensor's: it comes before the opacity.
    levels = _four([np.clip(value, 0, most * cover), most * cover], most)
    raster = levels.astype(np.uint16) if depth == 16 else levels.astype(np.uint8)
    return _layer((0,), raster, canvas, 1, camera)


def light_layers(canvas: Canvas, camera: Matrix33, chroma_camera: Matrix33) -> tuple[Layer, ...]:
    """A visible sprite: luma and, at half the density, chroma; and the light it sends out, if any."""
    cover = canvas.pixels[3]
    y, cb, cr = cv2.split(ycbcr(cv2.merge(list(canvas.pixels[:3])), 0.0))
    chroma = [_halved(plane) for plane in (cb + 128 * cover, cr + 128 * cover, 255 * cover)]
    layers = [
        _layer((0,), _four([y, 255 * cover]).astype(np.uint8), canvas, 1, camera),
        _layer((1, 2), _four(chroma).astype(np.uint8), canvas, 2, chroma_camera, 128.0),
    ]
    if canvas.glow.any():
        y, cb, cr = cv2.split(ycbcr(cv2.merge(list(canvas.glow)), 0.0))
        layers.append(_layer((0,), np.rint(y)[..., None].astype(np.int16), canvas, 1, camera, light=True))
        for index, plane in ((1, cb), (2, cr)):
            tint = np.rint(_halved(plane))[..., None].astype(np.int16)
            layers.append(_layer((index,), tint, canvas, 2, chroma_camera, light=True))
    return tuple(layers)


def _four(planes: list[Floats], most: float = 255.0) -> Floats:
    """Planes HxW as whole numbers of 0 to ``most``, HxWx4, the channels beyond them empty."""
    levels = [np.clip(np.rint(plane), 0, most).astype(np.float32) for plane in planes]
    return np.asarray(cv2.merge(levels + [np.zeros_like(levels[0])] * (4 - len(levels))), np.float32)


def _layer(
    group: tuple[int, ...],
    raster: _Raster,
    canvas: Canvas,
    halving: int,
    camera: Matrix33,
    zero: float = 0.0,
    light: bool = False,
) -> Layer:
    """The raster without its empty margin; ``halving`` is 2 where it has half the canvas's density."""
    used = np.any(raster != 0, axis=2)
    rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
    y0, y1 = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 1)
    x0, x1 = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 1)
    density = canvas.scale / halving
    first = (halving - 1) / 2  # the canvas pixel in the middle of the raster's first one
    left = canvas.left + first / canvas.scale + x0 / density
    top = canvas.top + first / canvas.scale + y0 / density
    c = [float(value) for value in camera[:2].ravel()]
    trimmed = np.ascontiguousarray(raster[y0:y1, x0:x1])
    return Layer(group, trimmed, left, top, density, (c[0], c[1], c[2], c[3], c[4], c[5]), zero, light)


def _halved(plane: Floats) -> Floats:
    """HxW averaged over 2x2 pixels; what is odd is filled up with nothing."""
    height, width = plane.shape
    even = cv2.copyMakeBorder(plane, 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT)
    size = (-(-width // 2), -(-height // 2))
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), np.float32)
