"""The plots of the HTML report as inline SVG: mean and spread of each method, grey levels over a sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from fusepipe.evaluation.metrics.table import METRICS
from fusepipe.evaluation.report.results import Comparison, MethodResult, SetResult, mean_of
from fusepipe.evaluation.scores import shown, summary

WIDTH, LABELS, VALUES, ROW = 360, 96, 54, 24
MAX_POINTS = 120  # single images drawn a method; more are a smear
BETTER = {"higher": "higher is better", "lower": "lower is better", "bound": ""}


def metric_plots(result: SetResult, comparison: Comparison) -> str:
    """One panel a metric."""
    panels = [_panel(result, name) for name in comparison.columns]
    return f'<div class="panels">{"".join(panels)}</div>'


def _panel(result: SetResult, name: str) -> str:
    row = METRICS[name]
    methods = [m for m in result.methods if not m.reference] + [m for m in result.methods if m.reference]
    values = {
        method.name: [v for r in method.rows if (v := r.get(name)) is not None and math.isfinite(v)]
        for method in methods
    }
    bound = result.bound(name)
    inside = [v for method in result.ranked() for v in values[method.name]]
    inside += [] if bound is None else [bound]
    if not inside:
        return ""
    low, high = _padded(*_widened(inside, [mean_of(m, name) for m in methods]))
    best, second = result.leaders(name)
    height = ROW * len(methods) + 34
    parts = [_axis(low, high, height)]
    if bound is not None:
        x = _x(bound, low, high)
        parts.append(f'<line class="bound" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{height - 24}"/>')
        parts.append(f'<text class="tick" x="{x - 3:.1f}" y="{height - 27}" text-anchor="end">bound</text>')
    ruled = sum(not method.reference for method in methods)
    if 0 < ruled < len(methods):
        parts.append(f'<line class="divide" x1="0" x2="{WIDTH}" y1="{ROW * ruled + 2}" y2="{ROW * ruled + 2}"/>')
    for index, method in enumerate(methods):
        kind = "best" if method.name in best else "second" if method.name in second else ""
        kind = kind or ("rule" if method.reference and method not in result.ranked() else "plain")
        parts.append(_row(method.name, values[method.name], kind, ROW * index + ROW / 2 + 2, low, high))
    better = f'<span class="better">{BETTER[row.direction]}</span>'
    said = "; ".join(f"{m.name} {shown(mean_of(m, name))}" for m in methods)
    return (
        f'<figure class="panel"><figcaption><b>{escape(name)}</b> {better}<br>'
        f"<small>{escape(row.definition)}</small></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(f"{name}: mean {said}")}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _row(label: str, values: Sequence[float], kind: str, y: float, low: float, high: float) -> str:
    short = label if len(label) <= 14 else f"{label[:13]}…"
    parts = [f'<text class="label" x="{LABELS - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(short)}</text>']
    found = summary(values)
    if found is not None:
        left, right = (_x(found.mean + sign * found.spread, low, high) for sign in (-1, 1))
        parts.append(f'<line class="spread" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        step = math.ceil(len(values) / MAX_POINTS)
        for index, value in enumerate(values[::step]):
            if low <= value <= high:
                # apart in height by a golden-ratio sequence, so that equal values do not hide each other
                beside = y - 7 + 14 * (index * 0.618034 % 1.0)
                parts.append(f'<circle class="one" cx="{_x(value, low, high):.1f}" cy="{beside:.1f}" r="1.6"/>')
        x = _x(found.mean, low, high)
        if low <= found.mean <= high:
            parts.append(f'<circle class="mean" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        else:
            # a rule far off would squeeze the methods together: it points outwards, its number says how far
            tip = 6 if found.mean > high else -6
            parts.append(f'<path class="mean" d="M{x:.1f} {y - 5:.1f} l{tip} 5 l{-tip} 5 z"/>')
    mean = shown(found.mean if found else None)
    parts.append(f'<text class="value" x="{WIDTH - 2}" y="{y + 4:.1f}" text-anchor="end">{mean}</text>')
    return f'<g class="{kind}"><title>{escape(label)}: {mean}</title>{"".join(parts)}</g>'


def _axis(low: float, high: float, height: float) -> str:
    parts = []
    for value in _ticks(low, high):
        x = _x(value, low, high)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{height - 24}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{value:g}</text>')
    return "".join(parts)


def _x(value: float, low: float, high: float) -> float:
    share = (min(max(value, low), high) - low) / (high - low)
    return LABELS + share * (WIDTH - LABELS - VALUES - 8)


def _widened(inside: Sequence[float], means: Sequence[float | None]) -> tuple[float, float]:
    """The range of the methods' values, and of those means of trivial rules that do not lie far off."""
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


TEMPORAL_HEIGHT = 120


def temporal_plots(result: SetResult) -> str:
    """Mean grey level of each frame: the sources and one method a panel, all on one scale."""
    sources = result.luminance
    methods = [method for method in result.methods if len(method.luminance) > 1]
    if not methods or len(sources.get("ir", [])) < 2:
        return ""
    every = [v for line in (*sources.values(), *(m.luminance for m in methods)) for v in line]
    low, high = _padded(min(every), max(every))
    panels = [_temporal_panel(method, sources["ir"], sources["vis"], low, high) for method in methods]
    return f'<div class="panels">{"".join(panels)}</div>'


def _temporal_panel(method: MethodResult, ir: Sequence[float], vis: Sequence[float], low: float, high: float) -> str:
    ticks = "".join(
        f'<line class="grid" x1="36" x2="{WIDTH - 4}" y1="{_y(v, low, high):.1f}" y2="{_y(v, low, high):.1f}"/>'
        f'<text class="tick" x="30" y="{_y(v, low, high) + 4:.1f}" text-anchor="end">{v:g}</text>'
        for v in _ticks(low, high, 4)
    )
    lines = "".join(
        f'<polyline class="{kind}" points="{_points(values, low, high)}"/>'
        for kind, values in (("ir", ir), ("vis", vis), ("fused", method.luminance))
    )
    numbers = " · ".join(f"{escape(name)} {shown(value)}" for name, value in method.temporal.items())
    last = len(method.luminance) - 1
    return (
        f'<figure class="panel"><figcaption><b>{escape(method.name)}</b> '
        f'<span class="better">{numbers}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {TEMPORAL_HEIGHT + 20}" role="img" aria-label="mean grey level of each frame: '
        f'{escape(method.name)} between {min(method.luminance):.1f} and {max(method.luminance):.1f}">{ticks}{lines}'
        f'<text class="tick" x="36" y="{TEMPORAL_HEIGHT + 15}">frame 0</text>'
        f'<text class="tick" x="{WIDTH - 4}" y="{TEMPORAL_HEIGHT + 15}" text-anchor="end">{last}</text></svg></figure>'
    )


def _points(values: Sequence[float], low: float, high: float) -> str:
    step = (WIDTH - 40) / max(1, len(values) - 1)
    return " ".join(f"{36 + index * step:.1f},{_y(value, low, high):.1f}" for index, value in enumerate(values))


def _y(value: float, low: float, high: float) -> float:
    return 6 + (high - value) / (high - low) * (TEMPORAL_HEIGHT - 10)
