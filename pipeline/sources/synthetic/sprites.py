"""The things that move through the street, each drawn once in metres: people, vehicles, bush, smoke.

A sprite stands on (0, 0), x to the right in its direction of travel, y down, so heights are negative.
Night light falls on sprites in the renderer; what glows is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.synthetic.drawing import Canvas, Colour, Paint, Point, limb, smooth

GAIT_STEPS = 12
"""Number of images of one stride (two steps)."""


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawable thing: ``draw`` paints it; ``body`` is the box (left, top, right, bottom) of the thing itself in
    metres, ``drawn`` the larger box with its shadow and its lights.
    """

    name: str
    draw: Callable[[Canvas], None]
    body: tuple[float, float, float, float]
    drawn: tuple[float, float, float, float]


def _shade(colour: Colour, by: float) -> Colour:
    return colour[0] * by, colour[1] * by, colour[2] * by


def _leg(canvas: Canvas, swing: float, bend: float, paint: Paint, shoe: Paint) -> None:
    hip: Point = (0.0, -0.90)
    knee = (hip[0] + 0.45 * math.sin(swing), hip[1] + 0.45 * math.cos(swing))
    ankle = (knee[0] + 0.42 * math.sin(swing - bend), knee[1] + 0.42 * math.cos(swing - bend))
    canvas.poly(limb(ankle, (ankle[0] + 0.13, ankle[1] + 0.02), 0.055, 0.04), shoe)
    canvas.poly(limb(hip, knee, 0.105, 0.08), paint)
    canvas.poly(limb(knee, ankle, 0.08, 0.055), paint)


def _arm(canvas: Canvas, swing: float, sleeve: Paint, hand: Paint) -> None:
    shoulder: Point = (0.0, -1.40)
    elbow = (shoulder[0] + 0.30 * math.sin(swing), shoulder[1] + 0.30 * math.cos(swing))
    wrist = (elbow[0] + 0.26 * math.sin(swing + 0.35), elbow[1] + 0.26 * math.cos(swing + 0.35))
    canvas.ellipse((wrist[0] + 0.02, wrist[1] + 0.03), 0.05, 0.06, hand)
    canvas.poly(limb(shoulder, elbow, 0.075, 0.06), sleeve)
    canvas.poly(limb(elbow, wrist, 0.06, 0.045), sleeve)


def draw_person(canvas: Canvas, phase: float, coat: Colour, legs: Colour, hair: Colour, stride: float) -> None:
    """A person at ``phase`` (radians) of the stride; ``stride`` is the swing of the legs (0: standing)."""
    skin = Paint((214, 168, 140), 32.5)
    shoe = Paint((44, 40, 40), 15.0)
    near, far = stride * math.sin(phase), -stride * math.sin(phase)
    near_bend = 0.95 * stride * max(0.0, math.cos(phase)) * 1.6
    far_bend = 0.95 * stride * max(0.0, -math.cos(phase)) * 1.6
    canvas.soft((0.12, 0.0), 0.55, 0.085, Paint((12, 14, 20), opacity=0.5))
    _arm(canvas, -far * 0.8, Paint(_shade(coat, 0.62), 21.0), Paint((160, 124, 104), 29.0))
    _leg(canvas, far, far_bend, Paint(_shade(legs, 0.66), 18.5), shoe)
    _leg(canvas, near, near_bend, Paint(legs, 20.5), shoe)
    torso = smooth([(-0.17, -0.82), (-0.19, -1.20), (-0.15, -1.47), (0.10, -1.49), (0.19, -1.22), (0.17, -0.80)])
    canvas.poly(torso, Paint((coat, _shade(coat, 0.70)), (25.5, 21.5)))
    canvas.poly(
        smooth([(-0.15, -1.46), (-0.02, -1.49), (-0.06, -1.1), (-0.16, -0.95)]), Paint(_shade(coat, 1.25), opacity=0.45)
    )
    canvas.poly(limb((0.0, -1.46), (0.02, -1.56), 0.06, 0.06), skin)
    canvas.ellipse((0.02, -1.64), 0.105, 0.13, Paint(((222, 178, 150), (186, 142, 118)), 33.5))
    canvas.poly(
        smooth([(-0.11, -1.60), (-0.10, -1.76), (0.03, -1.79), (0.12, -1.71), (0.03, -1.70)]), Paint(hair, 27.0)
    )
    _arm(canvas, -near * 0.8, Paint(_shade(coat, 0.86), 22.5), Paint((206, 160, 134), 31.0))


def person(
    name: str, step: int, coat: Colour, legs: Colour, hair: Colour = (58, 44, 36), stride: float = 0.45
) -> Sprite:
    """Image ``step`` of ``GAIT_STEPS`` of a walking person."""
    draw = partial(draw_person, phase=2 * math.pi * step / GAIT_STEPS, coat=coat, legs=legs, hair=hair, stride=stride)
    return Sprite(f"{name}/{step}", draw, (-0.25, -1.79, 0.25, 0.0), (-0.75, -1.95, 0.85, 0.15))


def draw_crouching(canvas: Canvas, coat: Colour, legs: Colour, hair: Colour) -> None:
    """A person who makes themselves small."""
    shoe, trousers, jacket = (
        Paint((44, 40, 40), 15.0),
        Paint(legs, 21.0),
        Paint((coat, _shade(coat, 0.7)), (26.0, 23.0)),
    )
    canvas.soft((0.05, 0.0), 0.5, 0.08, Paint((12, 14, 20), opacity=0.5))
    canvas.poly(limb((0.12, -0.05), (0.28, -0.04), 0.05, 0.04), shoe)
    canvas.poly(limb((0.32, -0.44), (0.14, -0.08), 0.08, 0.06), trousers)
    canvas.poly(limb((-0.10, -0.30), (0.32, -0.44), 0.13, 0.09), trousers)
    canvas.poly(limb((-0.10, -0.34), (0.06, -0.68), 0.17, 0.15), jacket)
    canvas.poly(limb((0.08, -0.66), (0.30, -0.46), 0.06, 0.05), Paint(_shade(coat, 0.85), 23.5))
    canvas.ellipse((0.32, -0.45), 0.05, 0.05, Paint((206, 160, 134), 30.0))
    canvas.ellipse((0.13, -0.85), 0.105, 0.13, Paint((214, 168, 140), 33.5))
    canvas.poly(smooth([(0.02, -0.82), (0.02, -0.97), (0.14, -1.0), (0.23, -0.92), (0.13, -0.91)]), Paint(hair, 27.0))


def crouching(name: str, coat: Colour, legs: Colour, hair: Colour = (58, 44, 36)) -> Sprite:
    """A crouching person."""
    draw = partial(draw_crouching, coat=coat, legs=legs, hair=hair)
    return Sprite(name, draw, (-0.28, -1.0, 0.38, 0.0), (-0.55, -1.1, 0.65, 0.15))


def _wheel(canvas: Canvas, x: float, radius: float, temp: float) -> None:
    middle = (x, -radius)
    canvas.ellipse(middle, radius * 1.12, radius * 1.12, Paint((22, 22, 26), temp - 4))
    canvas.ellipse(middle, radius, radius, Paint((34, 34, 38), temp))
    canvas.ellipse(middle, radius * 0.62, radius * 0.62, Paint(((186, 188, 194), (120, 122, 130)), temp + 7))
    for spoke in range(5):
        angle = 2 * math.pi * spoke / 5
        end = (x + radius * 0.5 * math.cos(angle), -radius + radius * 0.5 * math.sin(angle))
        canvas.poly(limb(middle, end, 0.03, 0.05), Paint((90, 92, 98)))
    canvas.ellipse(middle, radius * 0.15, radius * 0.15, Paint((70, 72, 78)))


def _lights(canvas: Canvas, front: float, rear: float, height: float) -> None:
    """Head and tail lamps; by night a beam on the road ahead and a red glow behind."""
    canvas.ellipse((front - 0.08, -height), 0.13, 0.08, Paint((244, 244, 236), 16.0, glow=(255, 250, 232)))
    canvas.ellipse((rear + 0.06, -height - 0.12), 0.08, 0.10, Paint((178, 26, 28), 12.0, glow=(255, 44, 38)))
    if canvas.light == "night":
        for part in np.linspace(0.3, 1.0, 10):  # nested cones: no edge is seen
            reach, spread = 4.4 * float(part), 0.30 * float(part)
            cone = [
                (front, -height),
                (front + reach, -height - spread * 0.5),
                (front + reach * 1.06, -height + spread),
                (front + reach, 0.02),
            ]
            canvas.poly(smooth(cone), Paint(glow=_shade((255, 246, 214), 0.016)))
        canvas.soft((front + 2.7, 0.02), 2.3, 0.24, Paint(glow=(255, 246, 220), opacity=0.42))
        canvas.soft((front, -height), 0.6, 0.42, Paint(glow=(200, 194, 176), opacity=0.75))
        canvas.soft((rear, -height - 0.1), 0.42, 0.3, Paint(glow=(170, 26, 24), opacity=0.7))


def draw_car(canvas: Canvas, colour: Colour, engine: float, lights: bool) -> None:
    """A hatchback going right; ``engine`` is the temperature of its hood in °C."""
    canvas.soft((0.1, 0.03), 2.6, 0.26, Paint((8, 10, 14), opacity=0.72))
    canvas.rect(-1.9, -0.36, 1.9, -0.12, Paint((20, 20, 24), (engine * 0.75, 12.0)))
    outline: list[Point] = [
        (-2.12, -0.30), (-2.18, -0.66), (-2.10, -0.98), (-1.72, -1.30), (-1.10, -1.46), (-0.20, -1.48),
        (0.42, -1.34), (1.05, -0.98), (1.80, -0.86), (2.14, -0.68), (2.18, -0.40), (2.05, -0.26), (-1.95, -0.24),
    ]  # fmt: skip
    canvas.poly(smooth(outline), Paint((_shade(colour, 1.12), _shade(colour, 0.62)), (9.5, 12.5)))
    if engine > 15:  # the heat comes through the hood and the wing
        canvas.soft((1.45, -0.66), 0.68, 0.33, Paint(temp=engine, opacity=1.0), power=0.8)
    canvas.poly(
        smooth([(-2.0, -0.98), (-1.6, -1.26), (-0.9, -1.44), (-0.2, -1.46), (0.4, -1.32), (1.0, -1.0)]),
        Paint(_shade(colour, 1.3), opacity=0.25),
    )
    glass = Paint(((150, 176, 194), (44, 56, 66)), (2.0, 7.5))
    canvas.poly([(-1.70, -0.98), (-1.42, -1.24), (-1.06, -1.37), (-0.42, -1.40), (-0.42, -0.96)], glass)
    canvas.poly([(-0.32, -0.96), (-0.32, -1.40), (-0.10, -1.39), (0.34, -1.26), (0.84, -0.97)], glass)
    canvas.poly(
        [(-0.32, -1.40), (-0.10, -1.39), (0.2, -1.3), (-0.2, -0.96), (-0.32, -0.96)],
        Paint((236, 242, 246), opacity=0.3),
    )
    # The driver, behind glass that is opaque in the thermal band.
    canvas.ellipse((0.08, -1.12), 0.10, 0.12, Paint((60, 50, 46), opacity=0.75))
    dark = Paint(_shade(colour, 0.42), opacity=0.8)
    for x in (-0.37, 0.78, -1.45):
        canvas.poly(limb((x, -0.94), (x + 0.03, -0.34), 0.012, 0.012), dark)
    canvas.rect(-2.1, -0.62, 2.1, -0.59, Paint(_shade(colour, 1.35), opacity=0.4))
    canvas.rect(-0.60, -0.80, -0.42, -0.765, Paint(_shade(colour, 0.45)))
    canvas.rect(-2.05, -0.34, 2.05, -0.24, Paint((38, 38, 42), 12.0))
    canvas.ellipse((-2.02, -0.26), 0.09, 0.05, Paint((70, 70, 72), 30.0 if lights else 9.0))
    for x in (-1.36, 1.36):
        _wheel(canvas, x, 0.33, 19.0 if lights else 11.0)
    if lights:
        _lights(canvas, 2.14, -2.16, 0.66)
    else:
        canvas.ellipse((2.05, -0.66), 0.13, 0.08, Paint((214, 216, 212), 10.0))
        canvas.ellipse((-2.10, -0.78), 0.08, 0.10, Paint((150, 26, 28), 10.0))


def car(name: str, colour: Colour, engine: float = 36.0, lights: bool = True) -> Sprite:
    """A car under way, or a parked one (``lights`` off)."""
    return Sprite(
        name,
        partial(draw_car, colour=colour, engine=engine, lights=lights),
        (-2.2, -1.48, 2.2, 0.0),
        (-3.0, -1.8, 7.2, 0.4),
    )


def draw_van(canvas: Canvas, colour: Colour, *, mirrored: bool) -> None:
    """A delivery van going right."""
    canvas.soft((0.1, 0.03), 3.1, 0.28, Paint((8, 10, 14), opacity=0.72))
    canvas.rect(-2.3, -0.45, 2.3, -0.15, Paint((20, 20, 24), (27.0, 12.0)))
    outline: list[Point] = [
        (-2.60, -0.32), (-2.64, -1.3), (-2.58, -2.10), (-2.35, -2.22), (0.9, -2.22), (1.35, -2.02), (1.92, -1.22),
        (2.52, -0.98), (2.62, -0.50), (2.5, -0.30),
    ]  # fmt: skip
    canvas.poly(smooth(outline), Paint((_shade(colour, 1.03), _shade(colour, 0.70)), (7.0, 11.5)))
    canvas.soft((2.02, -0.74), 0.58, 0.36, Paint(temp=36.0, opacity=1.0), power=0.8)
    canvas.poly(
        [(0.72, -1.22), (0.72, -1.98), (1.16, -1.94), (1.68, -1.22)], Paint(((150, 176, 194), (44, 56, 66)), (2.0, 7.5))
    )
    canvas.ellipse((1.0, -1.40), 0.12, 0.15, Paint((60, 50, 46), opacity=0.7))
    # Lettering that has the temperature of the metal it is painted on.
    canvas.rect(-2.62, -0.98, 0.55, -0.86, Paint((196, 92, 44)))
    canvas.text("POST", -2.1, -1.18, 0.52, Paint((40, 74, 120)), mirrored=mirrored)
    for x in (0.62, -0.62, 1.78):
        canvas.poly(limb((x, -2.05), (x, -0.4), 0.012, 0.012), Paint(_shade(colour, 0.5), opacity=0.7))
    canvas.rect(-2.6, -0.42, 2.55, -0.28, Paint((44, 44, 48), 11.5))
    for x in (-1.62, 1.66):
        _wheel(canvas, x, 0.36, 19.0)
    _lights(canvas, 2.56, -2.6, 0.72)


def van(name: str, colour: Colour, *, mirrored: bool = False) -> Sprite:
    """A van under way; ``mirrored`` is the lettering of one that is shown going left."""
    return Sprite(
        name, partial(draw_van, colour=colour, mirrored=mirrored), (-2.64, -2.22, 2.62, 0.0), (-3.4, -2.5, 7.6, 0.4)
    )


def draw_bush(canvas: Canvas) -> None:
    """A hedge: solid to the eye, half open to heat."""
    random = np.random.Generator(np.random.Philox(key=77))
    canvas.soft((0.1, 0.0), 1.35, 0.2, Paint((10, 14, 12), opacity=0.6))
    for layer in range(230):
        part = layer / 230
        angle, reach = np.pi * random.random(), np.sqrt(random.random())
        x = 1.15 * reach * np.cos(angle) - 0.06 * part
        y = -0.10 - 1.02 * reach * np.sin(angle) ** 0.7
        bright = (0.55 + 0.55 * part) * (0.88 + 0.24 * random.random()) * (0.72 - 0.42 * y)
        size = 0.07 + 0.10 * random.random()
        opacity = 1.0 if canvas.band is Band.VISIBLE else 0.13
        leaf = Paint((72 * bright, 102 * bright, 50 * bright), 8.5, opacity=opacity)
        canvas.ellipse((float(x), float(y)), size, size * 0.8, leaf)


def bush(name: str) -> Sprite:
    """A bush to hide behind."""
    return Sprite(name, draw_bush, (-1.3, -1.2, 1.3, 0.0), (-1.6, -1.4, 1.7, 0.3))


def draw_puff(canvas: Canvas) -> None:
    """One puff of smoke, 1 m in radius: hides what is behind it from the eye, not from the thermal camera."""
    canvas.soft((0.0, 0.0), 1.0, 1.0, Paint((206, 206, 208), opacity=1.0), power=0.6)


def puff(name: str) -> Sprite:
    """A puff of smoke, centred on (0, 0)."""
    return Sprite(name, draw_puff, (-1.0, -1.0, 1.0, 1.0), (-1.05, -1.05, 1.05, 1.05))
