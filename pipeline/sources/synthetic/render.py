"""Renders a scene at a given time into the planes of one camera's frame.

Each frame is a copy of the background with the movers composited on top, each a sprite warped to its exact position.
Sprites are drawn at their first use, or all in advance by :meth:`Renderer.prepare`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Band, Pixels
from fusepipe.pipeline.sources.synthetic.backdrop import COLDEST_C, HOTTEST_C, backdrop, thermal_gain
from fusepipe.pipeline.sources.synthetic.drawing import Canvas
from fusepipe.pipeline.sources.synthetic.layers import Layer, heat_layer, light_layers
from fusepipe.pipeline.sources.synthetic.options import SyntheticOptions
from fusepipe.pipeline.sources.synthetic.sprites import Sprite
from fusepipe.pipeline.sources.synthetic.street import night_light
from fusepipe.pipeline.sources.synthetic.street_objects import Placement, Scene
from fusepipe.pipeline.sources.synthetic.timeline import generator
from fusepipe.pipeline.sources.synthetic.truth import camera_matrix, view_corners

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
        across = view_corners(options.band, options.size)[0]
        self._view = float(across.min()), float(across.max())
        self._metres = {sprite.name: mover.metre for mover in scene.movers for sprite in mover.sprites}
        self._sprites: dict[str, tuple[Layer, ...]] = {}
        self._backdrop = backdrop(
            options.band, scene.light, options.size, options.depth, scene.parallax, scene.background
        )
        self._noise = self._make_noise()

    def prepare(self) -> None:
        """Draws all sprites in advance, so that no frame of a live camera is delayed."""
        for mover in self._scene.movers:
            if self._band in mover.bands:
                for sprite in mover.sprites:
                    self._layers(sprite)

    def render(self, true_ns: int, noise_key: int) -> tuple[Pixels, ...]:
        """The planes at a true time; ``noise_key`` selects the noise."""
        planes: list[Pixels] = [plane.copy() for plane in self._backdrop]
        for placed in self._scene.placements(true_ns, self._band):
            shift = self._scene.shift(placed.ground_y, self._band)
            if self._in_view(placed, shift):
                lit = self._light_on(placed)
                for layer in self._layers(placed.sprite):
                    layer.lay(planes, placed, shift, lit)
        if self._noise is not None:
            self._add_noise(self._noise, planes[0], noise_key)
        return tuple(planes)

    def _in_view(self, placed: Placement, shift: float) -> bool:
        """Whether it may be visible in the frame."""
        left, _, right, _ = placed.sprite.drawn
        reach = placed.metre * max(-left, right)
        low, high = self._view
        return low < placed.x + shift + reach and placed.x + shift - reach < high

    def _light_on(self, placed: Placement) -> float:
        """The share of daylight on an object at night."""
        if self._band is Band.INFRARED or self._scene.light == "day":
            return 1.0
        return night_light(placed.x, placed.ground_y)

    def _layers(self, sprite: Sprite) -> tuple[Layer, ...]:
        """A sprite ready for compositing, drawn at twice the resolution at which it is shown."""
        layers = self._sprites.get(sprite.name)
        if layers is not None:
            return layers
        density = float(np.clip(2 * self._scale * self._metres[sprite.name], 4, 320))
        canvas = Canvas(self._band, self._scene.light, *sprite.drawn, density)
        sprite.draw(canvas)
        if self._band is Band.VISIBLE:
            layers = light_layers(canvas, self._camera, self._chroma_camera)
        else:
            gain, at_zero = thermal_gain(self._options.depth)
            canvas.pixels[0] = canvas.pixels[0] * gain + canvas.pixels[1] * at_zero
            for plane in canvas.pixels:
                cv2.GaussianBlur(plane, (0, 0), 1.5, dst=plane, borderType=cv2.BORDER_CONSTANT)
            layers = (heat_layer(canvas, self._camera, self._options.depth),)
        self._sprites[sprite.name] = layers
        return layers

    def _make_noise(self) -> NDArray[np.int16] | None:
        """One sheet of noise, slightly larger than the frame: each frame uses another part of it."""
        options = self._options
        if not options.noise:
            return None
        width, height = options.size
        level = 1.0
        if self._band is Band.INFRARED:
            level = thermal_gain(options.depth)[0] * (HOTTEST_C - COLDEST_C) / 255
        random = generator(options.seed, options.band, 1, 0)
        sheet = random.standard_normal((height + _NOISE_MARGIN, width + _NOISE_MARGIN), np.float32)
        sheet *= np.float32(options.noise * level)
        return np.rint(sheet).astype(np.int16)

    def _add_noise(self, sheet: NDArray[np.int16], plane: Pixels, key: int) -> None:
        """Adds the noise of image ``key`` in place."""
        dy, dx = generator(self._options.seed, self._band, 2, key).integers(0, _NOISE_MARGIN + 1, 2)
        height, width = plane.shape
        part = sheet[dy : dy + height, dx : dx + width]
        cv2.add(plane, part, dst=plane, dtype=cv2.CV_16U if plane.dtype == np.uint16 else cv2.CV_8U)
