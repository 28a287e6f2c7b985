"""``fusepipe thermal read``: temperatures of pixels and boxes of one frame of an infrared recording or image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusepipe.core.errors import SourceError, UsageError
from fusepipe.core.frames import Frame, Pixels
from fusepipe.core.radiometry import ZERO_CELSIUS_K, Radiometry
from fusepipe.workflows.thermal_frames import LinearRadiometry, ThermalFile, open_thermal

PixelPlace = tuple[int, int]
PixelBox = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

COLDEST_K = 3.0
"""Nothing is colder: count 0 of a dead pixel, missing values of an image in degrees."""


@dataclass(frozen=True, slots=True)
class PixelReading:
    """One pixel; ``celsius`` is ``None`` where its count has no temperature."""

    x: int
    y: int
    count: int
    celsius: float | None

    def text(self) -> str:
        return f"({self.x}, {self.y}): {_degrees(self.celsius)}count {self.count}"


@dataclass(frozen=True, slots=True)
class BoxReading:
    """The lowest, mean and highest value of a box and where they are, of pixels that have one.

    ``without``: pixels without a temperature; ``saturated``: those of the highest count there is.
    """

    x: int
    y: int
    width: int
    height: int
    lowest: PixelReading
    highest: PixelReading
    mean_count: float
    mean_celsius: float | None
    without: int
    saturated: int

    def lines(self) -> list[str]:
        lines = [
            f"box of {self.width}x{self.height} at ({self.x}, {self.y}):",
            f"  lowest   {self.lowest.text()}",
            f"  mean     {_degrees(self.mean_celsius)}count {self.mean_count:.1f}",
            f"  highest  {self.highest.text()}",
        ]
        if self.without:
            lines.append(f"  {self.without} pixels without a temperature are left out")
        if self.saturated:
            lines.append(f"  {self.saturated} pixels are saturated: they may be hotter")
        return lines


@dataclass(frozen=True, slots=True)
class TemperatureReading:
    """What was read of the frame at ``time_s``; ``radiometry`` is what its counts measure."""

    file: str
    time_s: float
    width: int
    height: int
    radiometry: Radiometry | None
    pixels: list[PixelReading]
    boxes: list[BoxReading]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{self.file}: {self.width}x{self.height}, frame at {self.time_s:.3f} s"]
        lines += [one.text() for one in self.pixels]
        lines += [line for one in self.boxes for line in one.lines()]
        if self.radiometry is None or not self.radiometry.thermal:
            lines.append("the file does not say what its counts measure: --radiometry UNIT GAIN OFFSET does")
        return lines


def read_temperatures(
    path: Path,
    at_s: float | None,
    points: Sequence[PixelPlace],
    boxes: Sequence[PixelBox],
    radiometry: LinearRadiometry | None = None,
) -> TemperatureReading:
    """The temperatures at ``points`` and in ``boxes`` of the frame nearest to ``at_s``; by default of the whole image.

    Raises :class:`UsageError` for a time or a pixel that is not in the file, :class:`SourceError` for a file that
    cannot be read.
    """
    with open_thermal(path, radiometry) as file:
        time_s, frame = _frame_at(file, at_s, path)
    counts, known = frame.luma.pixels, frame.radiometry
    if known is not None and not known.thermal:
        known = None
    if not points and not boxes:
        boxes = [(0, 0, frame.width, frame.height)]
    return TemperatureReading(
        str(path),
        round(time_s, 6),
        frame.width,
        frame.height,
        frame.radiometry,
        [_pixel(counts, known, _inside(counts, (*point, 1, 1))[:2]) for point in points],
        [_box(frame, known, _inside(counts, box)) for box in boxes],
    )


def _frame_at(file: ThermalFile, at_s: float | None, path: Path) -> tuple[float, Frame]:
    """The frame nearest to a time, and its time."""
    nearest: tuple[float, Frame] | None = None
    for time_s, frame in file.frames(at_s or 0.0):
        if at_s is None:
            return time_s, frame
        if nearest is None or abs(time_s - at_s) <= abs(nearest[0] - at_s):
            nearest = time_s, frame
        if time_s >= at_s:
            break
    if nearest is None:
        raise SourceError(f"{path}: has no frame that can be read")
    if at_s is not None and at_s > nearest[0] + max(1.5 * file.interval_s, 0.1):
        raise UsageError(f"{path}: has no frame at {at_s:g} s; the last one is at {nearest[0]:.3f} s")
    return nearest


def _inside(counts: Pixels, box: PixelBox) -> PixelBox:
    x, y, width, height = box
    rows, columns = counts.shape
    if x + width > columns or y + height > rows:
        what = f"pixel ({x}, {y})" if (width, height) == (1, 1) else f"box of {width}x{height} at ({x}, {y})"
        raise UsageError(f"the {what} is not in the infrared image of {columns}x{rows}")
    return box


def _pixel(counts: Pixels, radiometry: Radiometry | None, point: PixelPlace) -> PixelReading:
    x, y = point
    count = int(counts[y, x])
    kelvin = np.nan if radiometry is None else float(radiometry.kelvin(count))
    known = kelvin >= COLDEST_K
    return PixelReading(x, y, count, round(kelvin - ZERO_CELSIUS_K, 3) if known else None)


def _box(frame: Frame, radiometry: Radiometry | None, box: PixelBox) -> BoxReading:
    x, y, width, height = box
    counts = frame.luma.pixels[y : y + height, x : x + width]
    kelvin = counts.astype(np.float64) if radiometry is None else radiometry.kelvin(counts)
    valid = np.isfinite(kelvin) & ((kelvin >= COLDEST_K) | (radiometry is None))
    if not valid.any():
        valid = np.ones_like(valid)
    lowest, highest = (
        np.unravel_index(int(find(np.where(valid, kelvin, fill))), kelvin.shape)
        for find, fill in ((np.argmin, np.inf), (np.argmax, -np.inf))
    )
    mean = float(kelvin[valid].mean())
    return BoxReading(
        x,
        y,
        width,
        height,
        _pixel(frame.luma.pixels, radiometry, (x + int(lowest[1]), y + int(lowest[0]))),
        _pixel(frame.luma.pixels, radiometry, (x + int(highest[1]), y + int(highest[0]))),
        round(float(counts[valid].mean()), 3),
        round(mean - ZERO_CELSIUS_K, 3) if radiometry is not None and np.isfinite(mean) else None,
        int((~valid).sum()),
        int((counts == (1 << frame.luma.bit_depth) - 1).sum()),
    )


def _degrees(celsius: float | None) -> str:
    return "" if celsius is None else f"{celsius:.2f} °C ({celsius + ZERO_CELSIUS_K:.2f} K), "
