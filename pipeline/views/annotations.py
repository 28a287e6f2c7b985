"""Annotations of a view: time, state, temperatures of spots and boxes, a scale bar. Off unless they are asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from fusepipe.core.frames import FusedFrame
from fusepipe.core.planes import Luma8, Pixels
from fusepipe.core.radiometry import ZERO_CELSIUS_K, Radiometry
from fusepipe.core.view_settings import AnnotationSettings, Palette, TemperatureUnit
from fusepipe.pipeline.views.ink import Ink, gradient
from fusepipe.pipeline.views.panels import Panel, PlaneFormat, false_colours

SAMPLED = 4  # every fourth row and column of the infrared image decides the scale bar's temperatures
NEAR_LEVELS = 6  # grey levels around a mark of the scale bar whose pixels give its temperature
BAR_WIDTH, BAR_HEIGHT = 1 / 40, 1 / 2  # of the scale bar, as shares of the image
MARKS = (255, 191, 128, 64, 0)  # levels at which the scale bar has a number
SYMBOLS: dict[TemperatureUnit, str] = {"celsius": "C", "kelvin": "K", "fahrenheit": "F"}


@dataclass(frozen=True, slots=True, eq=False)
class Thermal:
    """The infrared image at the frame's size: counts, full-range luma, and what the counts measure.

    ``outside`` is 255 where the camera sees nothing.
    """

    counts: Pixels
    luma: Luma8
    radiometry: Radiometry | None
    outside: Luma8 | None


def annotated(
    panel: Panel,
    frame: FusedFrame,
    settings: AnnotationSettings,
    form: PlaneFormat,
    thermal: Thermal | None,
    *,
    left: int,
    palette: Palette | None,
    live: bool,
) -> Panel:
    """A panel with its annotations; ``left`` is where the infrared image begins in it, in pixels.

    ``palette`` is that of the scale bar, ``None`` where the panel shows none. ``live``: capture times are on the host's
    monotonic clock.
    """
    ink = Ink(panel, form)
    if thermal is not None:
        if settings.scale_bar and palette is not None:
            _scale_bar(ink, settings, thermal, palette, form)
        _spots_and_boxes(ink, settings, thermal, left)
    words = [time_text(frame.capture_ns, live=live)] if settings.time else []
    words += [str(frame.state).upper()] if settings.state else []
    if words:
        line = "  ".join(words)
        ink.text(line, 0, ink.luma.shape[0] - ink.text_size(line)[1])
    return ink.panel()


def time_text(capture_ns: int, *, live: bool, wall_ns: Callable[[], int] = time.time_ns) -> str:
    """``2026-11-30 12:00:00.250 UTC`` for live cameras, ``0:01:05.250`` since the start for recordings."""
    if live:
        # both clocks are read now: an adjusted wall clock is followed
        captured = datetime.fromtimestamp((capture_ns + wall_ns() - time.monotonic_ns()) / 1e9, UTC)
        return f"{captured:%Y-%m-%d %H:%M:%S}.{captured.microsecond // 1000:03d} UTC"
    seconds, milliseconds = divmod(capture_ns // 1_000_000, 1000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"


def value_text(counts: float, radiometry: Radiometry | None, unit: TemperatureUnit) -> str:
    """A temperature with a tenth of a degree, or the count where it has none."""
    if radiometry is None:
        return f"{counts:.0f}"
    kelvin = float(radiometry.kelvin(counts))
    celsius = kelvin - ZERO_CELSIUS_K
    value = {"kelvin": kelvin, "celsius": celsius, "fahrenheit": celsius * 9 / 5 + 32}[unit]
    return f"{value:.1f} {SYMBOLS[unit]}" if np.isfinite(value) else "-"


def _spots_and_boxes(ink: Ink, settings: AnnotationSettings, thermal: Thermal, left: int) -> None:
    height, width = thermal.counts.shape
    spots = [(min(int(x * width), width - 1), min(int(y * height), height - 1)) for x, y in settings.spots]
    if settings.hottest:
        spots.append(hottest(thermal))
    for x, y in spots:
        seen = thermal.outside is None or not thermal.outside[y, x]
        shown = value_text(float(thermal.counts[y, x]), thermal.radiometry, settings.unit) if seen else "-"
        ink.cross(left + x, y)
        ink.text(shown, left + x + 4 * ink.pad, y + ink.pad)
    for x, y, across, down in settings.boxes:
        x0, y0 = int(x * width), int(y * height)
        x1, y1 = min(width, round((x + across) * width)), min(height, round((y + down) * height))
        ink.rectangle(left + x0, y0, left + x1 - 1, y1 - 1)
        ink.text(_box_text(thermal, settings.unit, x0, y0, x1, y1), left + x0, y1 + ink.pad)


def hottest(thermal: Thermal) -> tuple[int, int]:
    """(x, y) of the hottest pixel that the infrared camera sees; the first of several."""
    counts = thermal.counts
    if thermal.outside is not None:
        counts = np.where(thermal.outside == 0, counts, np.zeros((), counts.dtype))
    y, x = np.unravel_index(int(counts.argmax()), counts.shape)
    return int(x), int(y)


def _box_text(thermal: Thermal, unit: TemperatureUnit, x0: int, y0: int, x1: int, y1: int) -> str:
    """Min, mean and max of what is seen in a box; the mean is that of the temperatures."""
    inside = thermal.counts[y0:y1, x0:x1]
    if thermal.outside is not None:
        inside = inside[thermal.outside[y0:y1, x0:x1] == 0]
    if not inside.size:
        return "-"
    radiometry = thermal.radiometry
    mean = float(inside.mean())
    if radiometry is not None and radiometry.planck is not None:  # not linear in counts
        mean = float(radiometry.counts(float(np.nanmean(radiometry.kelvin(inside)))))
    low, middle, high = (
        value_text(counts, radiometry, unit) for counts in (float(inside.min()), mean, float(inside.max()))
    )
    return f"min {low}  mean {middle}  max {high}"


def _scale_bar(ink: Ink, settings: AnnotationSettings, thermal: Thermal, palette: Palette, form: PlaneFormat) -> None:
    """The palette at the right edge, with the temperatures that its levels have in this image."""
    rows, columns = ink.luma.shape
    width, height = max(8, round(columns * BAR_WIDTH / 2) * 2), max(16, round(rows * BAR_HEIGHT / 2) * 2)
    left, top = (columns - width - 2 * ink.pad) // 2 * 2, (rows - height) // 4 * 2
    ink.rectangle(left - 1, top - 1, left + width, top + height)
    ink.paste(left, top, false_colours(gradient(height, width), palette, form))
    for level in MARKS:
        counts = counts_at(level, thermal)
        if counts is not None:
            y = top + round((255 - level) / 255 * (height - 1))
            text = value_text(counts, thermal.radiometry, settings.unit)
            ink.text(text, left - ink.pad, y - ink.text_size(text)[1] // 2, "right")


def counts_at(level: int, thermal: Thermal) -> float | None:
    """The median counts of the pixels near a grey level, whatever tone curve led there; ``None`` without such."""
    luma, counts = thermal.luma[::SAMPLED, ::SAMPLED], thermal.counts[::SAMPLED, ::SAMPLED]
    near = np.abs(luma.astype(np.int16) - level) <= NEAR_LEVELS
    if thermal.outside is not None:
        near &= thermal.outside[::SAMPLED, ::SAMPLED] == 0
    return float(np.median(counts[near])) if near.any() else None
