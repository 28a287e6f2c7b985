"""The plots of the HTML report: where each mark of a drawing goes. ``templates/plots.html`` draws them as SVG.

Coordinates are units of the drawing's view box, x to the right and y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusepipe.evaluation.metrics.registry import METRICS
from fusepipe.evaluation.report.results import Comparison, MethodResult, SetResult, mean_of
from fusepipe.evaluation.scores import shown, summary

WIDTH, LABELS, VALUES, ROW = 360, 96, 54, 24
SEQUENCE_HEIGHT = 120
MAX_POINTS = 120  # single images drawn a method; more are a smear
BETTER = {"higher": "higher is better", "lower": "lower is better", "bound": ""}
MAX_LABEL = 14  # characters

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class MethodMarks:
    """One method in a :class:`MetricPlot`.

    ``kind`` is ``best``, ``second``, ``rule`` or ``plain``. ``points`` are single images. ``spread`` is None without
    a value; ``arrow`` is not 0 where the mean is outside the range: 6 to the right, -6 to the left.
    """

    name: str
    label: str
    label_x: float
    kind: str
    y: float
    mean: str
    mean_x: float = 0.0
    arrow: int = 0
    spread: Point | None = None
    points: Sequence[Point] = ()


@dataclass(frozen=True, slots=True)
class MetricPlot:
    """Mean and spread of each method in one metric; ``ticks`` are (x, label)."""

    name: str
    better: str
    definition: str
    description: str
    height: int
    ticks: Sequence[tuple[float, str]]
    rows: Sequence[MethodMarks]
    bound_x: float | None
    divider_y: int
    width: int = WIDTH


@dataclass(frozen=True, slots=True)
class SequencePlot:
    """Mean grey level of each frame of the sources and of one method; ``ticks`` are (y, label)."""

    name: str
    values: str
    description: str
    ticks: Sequence[tuple[float, str]]
    lines: Mapping[str, str]
    last_frame: int
    width: int = WIDTH
    height: int = SEQUENCE_HEIGHT


def metric_plots(result: SetResult, comparison: Comparison) -> list[MetricPlot]:
    """One plot a metric; none for metrics without values."""
    plots = (_metric_plot(result, name) for name in comparison.columns)
    return [plot for plot in plots if plot is not None]


def _metric_plot(result: SetResult, name: str) -> MetricPlot | None:
    methods = [m for m in result.methods if not m.reference] + [m for m in result.methods if m.reference]
    values = {
        method.name: [v for r in method.rows if (v := r.get(name)) is not None and math.isfinite(v)]
        for method in methods
    }
    bound = result.bound(name)
    inside = [v for method in result.ranked() for v in values[method.name]]
    inside += [] if bound is None else [bound]
    if not inside:
        return None
    low, high = _padded(*_widened(inside, [mean_of(m, name) for m in methods]))
    best, second = result.leaders(name)
    rows = []
    for index, method in enumerate(methods):
        kind = "best" if method.name in best else "second" if method.name in second else ""
        kind = kind or ("rule" if method.reference and method not in result.ranked() else "plain")
        rows.append(_method_marks(method.name, values[method.name], kind, ROW * index + ROW / 2 + 2, low, high))
    above = sum(not method.reference for method in methods)
    means = "; ".join(f"{m.name} {shown(mean_of(m, name))}" for m in methods)
    return MetricPlot(
        name=name,
        better=BETTER[METRICS[name].direction],
        definition=METRICS[name].definition,
        description=f"{name}: mean {means}",
        height=ROW * len(methods) + 34,
        ticks=[(_x(value, low, high), f"{value:g}") for value in _ticks(low, high)],
        rows=rows,
        bound_x=None if bound is None else _x(bound, low, high),
        divider_y=ROW * above + 2 if 0 < above < len(methods) else 0,
    )


def _method_marks(name: str, values: Sequence[float], kind: str, y: float, low: float, high: float) -> MethodMarks:
    label = name if len(name) <= MAX_LABEL else f"{name[: MAX_LABEL - 1]}…"
    found = summary(values)
    if found is None:
        return MethodMarks(name, label, LABELS - 12, kind, y, shown(None))
    points = [
        # apart in height by a golden-ratio sequence, so that equal values do not hide each other
        (_x(value, low, high), round(y - 7 + 14 * (index * 0.618034 % 1.0), 1))
        for index, value in enumerate(values[:: math.ceil(len(values) / MAX_POINTS)])
        if low <= value <= high
    ]
    # a rule far outside would compress the scale: it gets an arrow and its value
    arrow = 0 if low <= found.mean <= high else 6 if found.mean > high else -6
    spread = _x(found.mean - found.spread, low, high), _x(found.mean + found.spread, low, high)
    mean_x = _x(found.mean, low, high)
    return MethodMarks(name, label, LABELS - 12, kind, y, shown(found.mean), mean_x, arrow, spread, points)


def _x(value: float, low: float, high: float) -> float:
    share = (min(max(value, low), high) - low) / (high - low)
    return round(LABELS + share * (WIDTH - LABELS - VALUES - 8), 1)


def _widened(inside: Sequence[float], means: Sequence[float | None]) -> tuple[float, float]:
    """The range of the methods' values, and of those means of trivial rules that are not far off."""
    low, high = min(inside), max(inside)
    room = high - low
    near = [mean for mean in means if mean is not None and low - room <= mean <= high + room]
    return min([low, *near]), max([high, *near])


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.04 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - room, high + room


def _ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers inside the range, about ``wanted``."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step)
    return [round(index * step, 12) for index in range(first, math.floor(high / step) + 1)]


def sequence_plots(result: SetResult) -> list[SequencePlot]:
    """One plot a method, all on one scale; none for fewer than two frames."""
    sources = result.luminance
    methods = [method for method in result.methods if len(method.luminance) > 1]
    if not methods or len(sources.get("ir", [])) < 2:
        return []
    every = [v for line in (*sources.values(), *(m.luminance for m in methods)) for v in line]
    low, high = _padded(min(every), max(every))
    return [_sequence_plot(method, sources["ir"], sources["vis"], low, high) for method in methods]


def _sequence_plot(
    method: MethodResult, ir: Sequence[float], vis: Sequence[float], low: float, high: float
) -> SequencePlot:
    lines = {"ir": ir, "vis": vis, "fused": method.luminance}
    levels = f"between {min(method.luminance):.1f} and {max(method.luminance):.1f}"
    return SequencePlot(
        name=method.name,
        values=" · ".join(f"{name} {shown(value)}" for name, value in method.temporal.items()),
        description=f"mean grey level of each frame: {method.name} {levels}",
        ticks=[(_y(value, low, high), f"{value:g}") for value in _ticks(low, high)],
        lines={kind: _points(values, low, high) for kind, values in lines.items()},
        last_frame=len(method.luminance) - 1,
    )


def _points(values: Sequence[float], low: float, high: float) -> str:
    step = (WIDTH - 40) / max(1, len(values) - 1)
    return " ".join(f"{36 + index * step:.1f},{_y(value, low, high)}" for index, value in enumerate(values))


def _y(value: float, low: float, high: float) -> float:
    return round(6 + (high - value) / (high - low) * (SEQUENCE_HEIGHT - 10), 1)
