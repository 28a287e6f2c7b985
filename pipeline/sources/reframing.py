"""The part of a camera's image that is used, and how it is turned: a crop, then a rotation, then a mirroring.

Telemetry rows are cut off before.

Applied to each decoded image after what its file says about its orientation (display matrix, EXIF), and before anything
looks at the pixels: counts, pairing and registration see only the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fusepipe.core.camera_telemetry import CameraTelemetry, TelemetryRows, UnknownTelemetryError
from fusepipe.core.frames import Pixels, Plane, Size

Rotation = Literal[0, 90, 180, 270]
Flip = Literal["horizontal", "vertical"]


class CropError(Exception):
    """A crop that does not fit into an image; the argument says both."""


class CropRectangle(NamedTuple):
    """A rectangle in pixels: its left upper corner and its size."""

    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"crop of {self.width}x{self.height} at ({self.x}, {self.y})"


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels are displayed: rows and columns exchanged, then mirrored left-right, then upside down."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    def apply(self, pixels: Pixels) -> Pixels:
        """HxW or HxWxC to the same, or to WxH and WxHxC where ``transposed``."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        if self.mirrored:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels[::-1] if self.flipped else pixels)  # type: ignore[return-value]


UPRIGHT = Orientation()
_ROTATIONS = {  # clockwise
    0: UPRIGHT,
    90: Orientation(transposed=True, mirrored=True),
    180: Orientation(mirrored=True, flipped=True),
    270: Orientation(transposed=True, flipped=True),
}


@dataclass(frozen=True, slots=True)
class Reframing:
    """``crop`` is in pixels of the image before ``rotate`` (degrees clockwise) and ``flip``.

    ``flip`` is ``horizontal`` (left and right exchanged) or ``vertical`` (upside down), after the rotation.
    ``telemetry`` rows are cut off before all of them.
    """

    crop: CropRectangle | None = None
    rotate: Rotation = 0
    flip: Flip | None = None
    telemetry: TelemetryRows | None = None

    @property
    def orientation(self) -> Orientation:
        """``rotate`` and ``flip`` in one."""
        turned = _ROTATIONS[self.rotate]
        return Orientation(
            turned.transposed,
            turned.mirrored != (self.flip == "horizontal"),
            turned.flipped != (self.flip == "vertical"),
        )

    def size(self, size: Size) -> Size:
        """The (width, height) of an image of this size afterwards. Raises :class:`CropError`."""
        if self.telemetry is not None:
            size = size[0], size[1] - self._telemetry_rows(size)
        width, height = size if self.crop is None else self._fitting(size)[2:]
        return (height, width) if self.orientation.transposed else (width, height)

    def pixels(self, pixels: Pixels) -> Pixels:
        """HxW or HxWxC, of any type, reframed; a view where only cropped. Raises :class:`CropError`."""
        if self.telemetry is not None:
            self._telemetry_rows((pixels.shape[1], pixels.shape[0]))
            pixels = self.telemetry.cut(pixels)
        if self.crop is not None:
            x, y, width, height = self._fitting((pixels.shape[1], pixels.shape[0]))
            pixels = pixels[y : y + height, x : x + width]
        return pixels if self.orientation == UPRIGHT else self.orientation.apply(pixels)

    def planes(self, planes: tuple[Plane, ...]) -> tuple[Plane, ...]:
        """(Y,) or (Y, Cb, Cr) reframed; views where only cropped. Raises :class:`CropError`.

        Subsampled chroma whose samples the new borders divide becomes 4:4:4, so that colours stay where they are.
        """
        if self == Reframing():
            return planes
        if len(planes) == 1:
            return (Plane(self.pixels(planes[0].pixels), planes[0].bit_depth, planes[0].value_range),)
        luma = planes[0]
        x, y, width, height = self.crop or CropRectangle(0, 0, luma.width, luma.height)
        reframed = [Plane(self.pixels(luma.pixels), luma.bit_depth, luma.value_range)]
        for plane in planes[1:]:
            across, down = (2 if part < whole else 1 for part, whole in zip(_size(plane), _size(luma), strict=True))
            turned = self.orientation != UPRIGHT
            if x % across or y % down or (turned and (width % across or height % down)):
                rows, columns = np.arange(y, y + height) // down, np.arange(x, x + width) // across
                part = plane.pixels[np.ix_(rows, columns)]
            else:
                ends = -(-(y + height) // down), -(-(x + width) // across)
                part = plane.pixels[y // down : ends[0], x // across : ends[1]]
            reframed.append(Plane(self.orientation.apply(part) if turned else part, plane.bit_depth, plane.value_range))
        return tuple(reframed)

    def telemetry_of(self, pixels: Pixels) -> CameraTelemetry | None:
        """What the telemetry rows of an infrared image say, HxW counts before this; ``None`` where that is unknown."""
        try:
            return None if self.telemetry is None else self.telemetry.read(pixels)
        except UnknownTelemetryError:
            return None

    def telemetry_problem(self, pixels: Pixels) -> str:
        """Why the telemetry rows of an image cannot be read, for a note about its source; empty where they can."""
        try:
            if self.telemetry is not None:
                self.telemetry.read(pixels)
        except UnknownTelemetryError as error:
            assert self.telemetry is not None
            return f"has no telemetry of a {self.telemetry.camera} ({error}); its telemetry rows are cut off, not read"
        return ""

    def _telemetry_rows(self, size: Size) -> int:
        """How many rows an image of (width, height) loses. Raises :class:`CropError` where it has no more."""
        assert self.telemetry is not None
        rows = self.telemetry.count(size[0])
        if rows >= size[1]:
            raise CropError(f"the image of {size[0]}x{size[1]} has no more than {rows} telemetry rows")
        return rows

    def _fitting(self, size: Size) -> CropRectangle:
        """The crop. Raises :class:`CropError` where an image of (width, height) does not have it all."""
        assert self.crop is not None
        if self.crop.x + self.crop.width > size[0] or self.crop.y + self.crop.height > size[1]:
            raise CropError(f"the {self.crop} does not fit into the image of {size[0]}x{size[1]}")
        return self.crop


AS_IT_IS = Reframing()


def _size(plane: Plane) -> Size:
    return plane.width, plane.height
