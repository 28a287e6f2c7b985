"""The objects of the street at any time, and their positions in each camera.

A scene is a pure function of true time, without state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.synthetic.drawing import Colour
from fusepipe.pipeline.sources.synthetic.options import Light
from fusepipe.pipeline.sources.synthetic.sprites import GAIT_STEPS, Sprite, bush, car, crouching, person, puff, van
from fusepipe.pipeline.sources.synthetic.street import foot, nearness, units_per_metre
from fusepipe.pipeline.sources.synthetic.truth import Matrix33, camera_matrix

_STRIDE_M = 1.5
"""The length of two steps of a person."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A sprite at one moment: its foot at world (``x``, ``y``), ``metre`` world units a metre.

    ``facing`` is 1 to the right and -1 to the left. ``ground_y`` is where on the ground it stands, which
    decides its parallax and what it hides; ``opacity`` 0..1.
    """

    name: str
    sprite: Sprite
    x: float
    y: float
    metre: float
    facing: int
    ground_y: float
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Mover:
    """An object of the scene; ``place`` returns its placement at a true time in seconds.

    ``sprites`` are all of its appearances, ``metre`` is the largest scale at which they are shown.
    """

    name: str
    bands: tuple[Band, ...]
    sprites: tuple[Sprite, ...]
    metre: float
    place: Callable[[float], Placement]


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """The bounding box of an object in a camera, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


_BOTH = (Band.INFRARED, Band.VISIBLE)


def _around(x: float, length: float) -> float:
    """``x`` wrapped to a loop of ``length`` units centred on 0."""
    return (x + length / 2) % length - length / 2


def standing(name: str, sprite: Sprite, x: float, z_m: float, facing: int = 1, bands: Sequence[Band] = _BOTH) -> Mover:
    """A static object ``z_m`` metres away."""
    y = foot(z_m)
    metre = units_per_metre(y)
    there = Placement(name, sprite, x, y, metre, facing, y)
    return Mover(name, tuple(bands), (sprite,), metre, lambda _: there)


def driving(name: str, sprite: Sprite, x: float, z_m: float, speed_m_s: float) -> Mover:
    """A vehicle on a loop that is wider than the view; a negative speed is to the left."""
    y, facing = foot(z_m), 1 if speed_m_s > 0 else -1
    metre = units_per_metre(y)

    def place(t_s: float) -> Placement:
        return Placement(name, sprite, _around(x + speed_m_s * metre * t_s, 1500), y, metre, facing, y)

    return Mover(name, _BOTH, (sprite,), metre, place)


def walking(name: str, coat: Colour, legs: Colour, x: float, z_m: float, speed_m_s: float) -> Mover:
    """A walking person on a loop."""
    y, facing = foot(z_m), 1 if speed_m_s > 0 else -1
    metre = units_per_metre(y)
    steps = tuple(person(name, step, coat, legs) for step in range(GAIT_STEPS))

    def place(t_s: float) -> Placement:
        gone_m = abs(speed_m_s) * t_s
        step = int(gone_m / _STRIDE_M * GAIT_STEPS) % GAIT_STEPS
        return Placement(name, steps[step], _around(x + facing * gone_m * metre, 900), y, metre, facing, y)

    return Mover(name, _BOTH, steps, metre, place)


def smoking(name: str, sprite: Sprite, x: float, z_m: float, start: float, life_s: float = 5.0) -> Mover:
    """A puff of smoke that rises, drifts, grows and fades in a loop; ``start`` (0..1) is its phase."""
    ground_y = foot(z_m)
    metre = units_per_metre(ground_y)

    def place(t_s: float) -> Placement:
        age = (t_s / life_s + start) % 1.0
        sway = 0.16 * math.sin(2 * math.pi * (age + 3 * start))
        size = metre * (0.34 + 0.58 * age**0.7)
        opacity = 0.92 * min(1.0, age / 0.12) * (1 - age) ** 0.55
        at = (x + metre * (0.45 * age + sway), ground_y - metre * (0.15 + 2.1 * age))
        return Placement(name, sprite, at[0], at[1], size, 1, ground_y, opacity)

    return Mover(name, (Band.VISIBLE,), (sprite,), 0.92 * metre, place)


@dataclass(frozen=True, slots=True)
class Scene:
    """The movers of a scene; nearer ones occlude farther ones. ``background`` is ``street`` or empty."""

    light: Light
    movers: tuple[Mover, ...]
    parallax: float = 0.0
    background: str = "street"

    def placements(self, true_ns: int, band: Band) -> list[Placement]:
        """The placements visible in ``band`` at a true time, farthest first."""
        t_s = true_ns * 1e-9
        seen = [mover.place(t_s) for mover in self.movers if band in mover.bands]
        seen.sort(key=lambda placement: placement.ground_y)
        return seen

    def shift(self, ground_y: float, band: Band) -> float:
        """The horizontal parallax in world units of an object at ``ground_y``, for ``band``."""
        return self.parallax * nearness(ground_y) if band is Band.INFRARED else 0.0

    def object_positions(self, true_ns: int, band: Band, size: tuple[int, int]) -> dict[str, BoundingBox]:
        """The bounding box of each object in a camera of ``size`` (width, height), also outside the image."""
        camera = camera_matrix(band, size)
        boxes = {}
        for placed in self.placements(true_ns, band):
            left, top, right, bottom = placed.sprite.body
            corners = np.array([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]]).T
            x, y, _ = camera @ placement_matrix(placed, self.shift(placed.ground_y, band)) @ corners
            boxes[placed.name] = BoundingBox(float(x.min()), float(y.min()), float(x.max()), float(y.max()))
        return boxes


def placement_matrix(placed: Placement, shift: float = 0.0) -> Matrix33:
    """The 3x3 matrix from metres of a sprite to world units."""
    m = placed.metre
    return np.array([[m * placed.facing, 0.0, placed.x + shift], [0.0, m, placed.y], [0.0, 0.0, 1.0]])


@cache
def _street_movers() -> tuple[Mover, ...]:
    smoke = puff("puff")
    return (
        walking("walker-1", (168, 52, 48), (54, 60, 84), -150, 31.9, 1.35),
        walking("walker-2", (52, 74, 116), (70, 66, 62), 160, 31.2, -1.2),
        walking("walker-3", (222, 206, 168), (58, 54, 52), 20, 30.4, 1.1),
        standing("waiting", person("waiting", 0, (88, 96, 74), (48, 52, 66), stride=0.0), 152, 30.0, -1),
        standing("parked", car("parked", (96, 108, 122), engine=24.0, lights=False), -74, 27.2, -1),
        driving("car-1", car("car-1", (172, 44, 42)), 250, 24.6, -6.4),
        driving("van", van("van", (226, 226, 220), mirrored=True), -420, 24.6, -6.4),
        driving("car-2", car("car-2", (44, 84, 136)), -190, 17.4, 5.4),
        driving("car-3", car("car-3", (214, 214, 210)), 520, 17.4, 5.4),
        walking("walker-4", (64, 92, 82), (50, 52, 60), 60, 12.6, -1.15),
        walking("walker-5", (196, 142, 60), (44, 50, 70), -300, 11.4, 1.3),
        standing("in-smoke", person("in-smoke", 0, (222, 112, 44), (60, 62, 72), stride=0.12), -136, 15.5),
        *(smoking(f"smoke-{n}", smoke, -150, 15.0, n / 7) for n in range(7)),
        standing("hidden", crouching("hidden", (74, 78, 62), (60, 62, 54)), 250, 12.6, -1),
        standing("bush", bush("bush"), 246, 12.2),
    )


def make_scene(name: str, light: Light, parallax: float = 0.0) -> Scene:
    """The scene of a URL; ``parallax`` in world units (pixels at 640 wide)."""
    return Scene(light, _street_movers(), parallax, name)
