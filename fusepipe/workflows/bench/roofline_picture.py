"""The roofline as an SVG picture: both axes logarithmic, operations per byte against GOP/s."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fusepipe.core.html_pages import environment

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 275, 50, 60
COLOURS = {"fp32": "#1f5fa8", "bf16": "#2a8a4a", "int8": "#b5502a"}

_TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="{{ left }}" y="28" font-size="15">{{ title }}</text>
{% for x, label in columns %}
<line x1="{{ x }}" x2="{{ x }}" y1="{{ top }}" y2="{{ base }}" stroke="#dddddd"/>
<text x="{{ x }}" y="{{ base + 18 }}" text-anchor="middle">{{ label }}</text>
{% endfor %}
{% for y, label in rows %}
<line x1="{{ left }}" x2="{{ edge }}" y1="{{ y }}" y2="{{ y }}" stroke="#dddddd"/>
<text x="{{ left - 8 }}" y="{{ y + 4 }}" text-anchor="end">{{ label }}</text>
{% endfor %}
{% for points, colour in roofs %}
<polyline points="{{ points }}" fill="none" stroke="{{ colour }}" stroke-width="2"/>
{% endfor %}
{% for x, y, text, colour in ceilings %}
<text x="{{ x }}" y="{{ y }}" text-anchor="end" fill="{{ colour }}">{{ text }}</text>
{% endfor %}
{% for x, y, number, colour in marks %}
<circle cx="{{ x }}" cy="{{ y }}" r="4" fill="{{ colour }}"/>
<text x="{{ x + 6 }}" y="{{ y - 5 }}" fill="{{ colour }}" font-size="11">{{ number }}</text>
{% endfor %}
{% for y, text, colour in legend %}
<text x="{{ edge + 14 }}" y="{{ y }}" fill="{{ colour }}" font-size="11">{{ text }}</text>
{% endfor %}
<text x="{{ (left + edge) / 2 }}" y="{{ base + 42 }}" text-anchor="middle">operations per byte, at least</text>
<text transform="translate(20 {{ (top + base) / 2 }}) rotate(-90)" text-anchor="middle">GOP/s, all cores</text>
</svg>
"""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The arithmetic ceiling of a precision in GOP/s."""

    precision: str
    gops: float


@dataclass(frozen=True, slots=True)
class Computation:
    """A measured computation; ``intensity`` in operations per byte."""

    name: str
    precision: str
    intensity: float
    gops: float


def roofline_svg(title: str, ceilings: Sequence[Ceiling], bandwidth: float, points: Sequence[Computation]) -> str:
    """The picture; ``bandwidth`` in GB/s. Every figure is positive, and there is a ceiling."""
    ridges = [one.gops / bandwidth for one in ceilings]
    low_x, high_x = _decades([*ridges, *(p.intensity for p in points)])
    low_y, high_y = _decades([*(one.gops for one in ceilings), *(p.gops for p in points)])
    edge, base = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x_of(value: float) -> float:
        return round(LEFT + (math.log10(value) - low_x) / (high_x - low_x) * (edge - LEFT), 1)

    def y_of(value: float) -> float:
        return round(base - (math.log10(value) - low_y) / (high_y - low_y) * (base - TOP), 1)

    roofs, labels = [], []
    left, floor = 10.0**low_x, 10.0**low_y
    for one, ridge in zip(ceilings, ridges, strict=True):
        start = max(left, floor / bandwidth)
        colour = COLOURS.get(one.precision, "black")
        corners = [(start, start * bandwidth), (ridge, one.gops), (10.0**high_x, one.gops)]
        roofs.append((" ".join(f"{x_of(x)},{y_of(y)}" for x, y in corners), colour))
        labels.append((edge - 4, y_of(one.gops) - 6, f"{one.precision}: {one.gops:g} GOP/s", colour))
    numbered = list(enumerate(points, 1))
    marks = [(x_of(p.intensity), y_of(p.gops), number, COLOURS.get(p.precision, "black")) for number, p in numbered]
    legend = [(TOP + 10, f"slope: {bandwidth:g} GB/s of memory", "black")]
    for number, p in numbered:
        text = f"{number}  {p.name} {p.precision}: {p.gops:g} GOP/s"
        legend.append((TOP + 16 + 16 * number, text, COLOURS.get(p.precision, "black")))
    return environment().from_string(_TEMPLATE).render(
        width=WIDTH, height=max(HEIGHT, TOP + 32 + 16 * len(points)), title=title, left=LEFT, top=TOP, edge=edge,
        base=base, columns=[(x_of(10.0**k), f"{10.0**k:g}") for k in range(low_x, high_x + 1)],
        rows=[(y_of(10.0**k), f"{10.0**k:g}") for k in range(low_y, high_y + 1)],
        roofs=roofs, ceilings=labels, marks=marks, legend=legend,
    )  # fmt: skip


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that enclose the values, at least one decade."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)
