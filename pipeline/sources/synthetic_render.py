"""Turns a scene at a moment into the planes of one camera's frame.

The street is painted once for the camera; each frame is a copy of it with the movers laid over, each a
sprite warped to its exact place. Sprites are painted when they are first seen.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.frames import Band, Pixels
from fusepipe.pipeline.sources.synthetic_canvas import Canvas, Floats
from fusepipe.pipeline.sources.synthetic_clock import generator
from fusepipe.pipeline.sources.synthetic_layers import Layer, heat_layer, light_layers, ycbcr
from fusepipe.pipeline.sources.synthetic_options import SyntheticOptions
from fusepipe.pipeline.sources.synthetic_scene import Placement, Scene
from fusepipe.pipeline.sources.synthetic_street import BASE, NEAREST, finish, night_light, paint_street
from fusepipe.pipeline.sources.synthetic_truth import camera_matrix

COLDEST_C, HOTTEST_C = -6.0, 36.0
"""What an 8-bit infrared picture shows as 0 and 255, by day and by night: a fixed range."""
COUNTS_PER_KELVIN = 25.0
COUNTS_AT_0C = 273.15 * COUNTS_PER_KELVIN
"""16-bit pixels are the absolute temperature in steps of 0.04 K, as radiometric cameras give it."""

_CLIMB = 420.0  # the world ends this far above and below its middle; beyond, its edge goes on
_NOISE_MARGIN = 61


class Renderer:
    """Renders one camera. Used by one thread.

    ``render`` gives (Y, Cb, Cr) for the visible band (uint8, full range BT.601, chroma halved and rounded
    up, each chroma sample in the middle of its 2x2 pixels) and one plane for infrared.
    """

    def __init__(self, options: SyntheticOptions, scene: Scene) -> None:
        self._options, self._scene, self._band = options, scene, options.band
        self._camera = camera_matrix(options.band, options.size)
        half = np.array([[0.5, 0.0, -0.25], [0.0, 0.5, -0.25], [0.0, 0.0, 1.0]])
        self._chroma_camera = half @ self._camera
        self._scale = float(np.hypot(self._camera[0, 0], self._camera[1, 0]))
        self._sprites: dict[str, tuple[Layer, ...]] = {}
        corners = np.array([[-1, -1, 1], [options.size[0], -1, 1], [*options.size, 1], [-1, options.size[1], 1]]).T
        self._corners = (np.linalg.inv(self._camera) @ corners)[:2]
        self._view = float(self._corners[0].min()), float(self._corners[0].max())
        self._background = self._paint_background()
        self._noise = self._make_noise()

    def render(self, true_ns: int, noise_key: int) -> tuple[Pixels, ...]:
        """The camera's picture at a true time; ``noise_key`` picks the noise of this picture."""
        planes: list[Pixels] = [plane.copy() for plane in self._background]
        for placed in self._scene.placements(true_ns, self._band):
            self._lay(planes, placed)
        if self._noise is not None:
            self._add_noise(planes[0], noise_key)
        return tuple(planes)

    # -- the street ------------------------------------------------------------------------------

    def _paint_background(self) -> tuple[Pixels, ...]:
        width, height = self._options.size
        x, y = self._corners
        # Painted at twice the camera's scale and averaged down; never finer than 4 pixels a unit, which is
        # 2560 across, for the largest pictures.
        scale = float(np.clip(2 * self._scale, 0.5, 4.0))
        canvas = Canvas(
            self._band,
            self._scene.light,
            float(x.min()) - 4,
            max(float(y.min()) - 4, -_CLIMB),
            float(x.max()) + 4,
            min(float(y.max()) + 4, _CLIMB),
            scale,
        )
        self._lean(canvas)
        if self._scene.background == "street":
            paint_street(canvas)
        world = finish(canvas)
        blur = 0.35 * scale / self._scale if scale > 1.2 * self._scale else 0.0
        blur *= 2.4 if self._band is Band.INFRARED else 1.0  # thermal lenses are soft
        if blur > 0.3:
            world = cv2.GaussianBlur(world, (0, 0), blur)
        to_camera = (self._camera @ canvas.to_world)[:2]
        picture = cv2.warpAffine(
            world, to_camera, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        if self._band is Band.INFRARED:
            return (self._quantise(self._to_level(picture)),)
        return self._to_planes(picture)

    def _lean(self, canvas: Canvas) -> None:
        """Gives the canvas the ground's parallax, which only the infrared camera has."""
        if self._band is Band.INFRARED:
            canvas.lean_from, canvas.lean_slope = BASE, self._scene.parallax / (NEAREST - BASE)

    def _to_planes(self, picture: Floats) -> tuple[Pixels, ...]:
        """HxWx3 R, G, B to Y, Cb, Cr."""
        ycc = ycbcr(picture)
        height, width = picture.shape[:2]
        even = cv2.copyMakeBorder(ycc, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        small = cv2.resize(even, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
        planes = (ycc[..., 0], small[..., 1], small[..., 2])
        return tuple(np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in planes)

    def _to_level(self, temp: Floats) -> Floats:
        """°C to pixel values of this camera, linearly."""
        gain, at_zero = self._gain
        return (temp * np.float32(gain) + np.float32(at_zero)).astype(np.float32)

    @property
    def _gain(self) -> tuple[float, float]:
        """Pixel values a kelvin, and the one at 0 °C."""
        if self._options.depth == 16:
            return COUNTS_PER_KELVIN, COUNTS_AT_0C
        gain = 255.0 / (HOTTEST_C - COLDEST_C)
        return gain, -COLDEST_C * gain

    def _quantise(self, levels: Floats) -> Pixels:
        if self._options.depth == 16:
            return np.clip(np.rint(levels), 0, 65535).astype(np.uint16)
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8)

    # -- the movers ------------------------------------------------------------------------------

    def _lay(self, planes: list[Pixels], placed: Placement) -> None:
        shift = self._scene.shift(placed.ground_y, self._band)
        if not self._in_view(placed, shift):
            return
        layers = self._sprites.get(placed.sprite.name)
        if layers is None:
            layers = self._sprites[placed.sprite.name] = self._paint_sprite(placed)
        lit = self._light_on(placed)
        for layer in layers:
            layer.lay(planes, placed, shift, lit)

    def _in_view(self, placed: Placement, shift: float) -> bool:
        """Whether any of it may be in the picture: so that what is outside costs nothing."""
        left, _, right, _ = placed.sprite.drawn
        reach = placed.metre * max(-left, right)
        low, high = self._view
        return low < placed.x + shift + reach and placed.x + shift - reach < high

    def _light_on(self, placed: Placement) -> float:
        """By night, how much of the daylight falls on something."""
        if self._band is Band.INFRARED or self._scene.light == "day":
            return 1.0
        return night_light(placed.x, placed.ground_y)

    def _paint_sprite(self, placed: Placement) -> tuple[Layer, ...]:
        # Not as large as it happens to be when first seen: pictures must not depend on what was seen before.
        density = float(np.clip(2 * self._scale * (placed.largest or placed.metre), 4, 320))
        canvas = Canvas(self._band, self._scene.light, *placed.sprite.drawn, density)
        placed.sprite.draw(canvas)
        if self._band is Band.INFRARED:
            gain, at_zero = self._gain
            canvas.pixels[0] = canvas.pixels[0] * gain + canvas.pixels[1] * at_zero
            for plane in canvas.pixels:
                cv2.GaussianBlur(plane, (0, 0), 1.5, dst=plane, borderType=cv2.BORDER_CONSTANT)
            return (heat_layer(canvas, self._camera, self._options.depth),)
        return light_layers(canvas, self._camera, self._chroma_camera)

    # -- the noise -------------------------------------------------------------------------------

    def _make_noise(self) -> NDArray[np.int16] | None:
        """One sheet of noise, a little larger than the picture: each picture shows another part of it."""
        options = self._options
        if not options.noise:
            return None
        width, height = options.size
        level = self._gain[0] * (HOTTEST_C - COLDEST_C) / 255 if self._band is Band.INFRARED else 1.0
        random = generator(options.seed, options.band, 1, 0)
        sheet = random.standard_normal((height + _NOISE_MARGIN, width + _NOISE_MARGIN), np.float32)
        sheet *= np.float32(options.noise * level)
        return np.rint(sheet).astype(np.int16)

    def _add_noise(self, plane: Pixels, key: int) -> None:
        assert self._noise is not None
        dy, dx = generator(self._options.seed, self._options.band, 2, key).integers(0, _NOISE_MARGIN + 1, 2)
        height, width = plane.shape
        part = self._noise[dy : dy + height, dx : dx + width]
        cv2.add(plane, part, dst=plane, dtype=cv2.CV_16U if plane.dtype == np.uint16 else cv2.CV_8U)
