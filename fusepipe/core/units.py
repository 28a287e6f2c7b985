"""Quantities with units as written in YAML: ``20ms``, ``1.5s``, ``10min``, ``30m``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

US, MS, S, MIN, H = 1_000, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000
D = 24 * H

DURATION_UNITS = {"us": US, "ms": MS, "s": S, "min": MIN, "h": H, "d": D}
SIZE_UNITS = {"kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000, "TB": 1_000_000_000_000}
BITRATE_UNITS = {"kbps": 1_000, "Mbps": 1_000_000}
LENGTH_UNITS = {"mm": Decimal("0.001"), "cm": Decimal("0.01"), "m": Decimal(1), "km": Decimal(1000)}
# kelvin of 0, and of one degree
TEMPERATURE_UNITS = {
    "C": (Decimal("273.15"), Decimal(1)),
    "K": (Decimal(0), Decimal(1)),
    "F": (Decimal("459.67") * 5 / 9, Decimal(5) / 9),
}

# A hundred years in nanoseconds still fits 63 bits, so that sums of two times do too.
MAX_NS = 100 * 365 * D
MAX_K = 5000
MAX_M = Decimal(1_000_000)
MIN_BPS, MAX_BPS = 50_000, 200_000_000
MAX_BYTES = 1_000_000 * SIZE_UNITS["TB"]

_NUMBER = r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*([A-Za-zµμ]*)\s*")


class Nanoseconds(int):
    """A duration in nanoseconds: set in Python through a name that ends in ``_ns``."""


class BitsPerSecond(int):
    """A bit rate in bits per second: set in Python through a name that ends in ``_bps``."""


class Bytes(int):
    """An amount of data in bytes: set in Python through a name that ends in ``_bytes``."""


class Kelvins(float):
    """A temperature in kelvin: set in Python through a name that ends in ``_k``."""


class Metres(float):
    """A length in metres: set in Python through a name that ends in ``_m``."""


def parse_duration_ns(value: Any) -> int:
    """``20ms`` to nanoseconds, rounded to the nearest; may be negative. Raises ValueError that names the fix."""
    if isinstance(value, Nanoseconds):
        return int(value)
    number, unit = _split(value, "a time with its unit", "20ms, 1.5s or 10min", "20ms or 20s")
    unit = "us" if unit in ("µs", "μs") else unit
    exact = _in_units(number, unit, DURATION_UNITS, "a time", "; minutes are min" if unit == "m" else "")
    if abs(exact) > MAX_NS:
        raise ValueError("is longer than a hundred years")
    rounded = round(exact)
    if exact and not rounded:
        raise ValueError("is shorter than a nanosecond; say 0")
    return rounded


def parse_length_m(value: Any) -> float:
    """``30m`` to metres. Raises ValueError that names the fix."""
    if isinstance(value, Metres):
        return float(value)
    number, unit = _split(value, "a length with its unit", "30m, 500mm or 0.5km", "30m or 30cm")
    exact = _in_units(number, unit, LENGTH_UNITS, "a length")
    if abs(exact) > MAX_M:
        raise ValueError("is longer than a thousand kilometres")
    return float(exact)


def parse_bitrate_bps(value: Any) -> int:
    """``2Mbps`` to bits per second. Raises ValueError that names the fix."""
    if isinstance(value, BitsPerSecond):
        return int(value)
    number, unit = _split(value, "a bit rate with its unit", "2Mbps or 800kbps", "2Mbps or 800kbps")
    rate = round(_in_units(number, unit, BITRATE_UNITS, "a bit rate"))
    if not MIN_BPS <= rate <= MAX_BPS:
        raise ValueError("should be from 50kbps to 200Mbps")
    return rate


def parse_size_bytes(value: Any) -> int:
    """``500MB`` to bytes; decimal units, as disks have them. Raises ValueError that names the fix."""
    if isinstance(value, Bytes):
        return int(value)
    number, unit = _split(value, "an amount of data with its unit", "500MB, 2GB or 1TB", "500MB or 2GB")
    size = round(_in_units(number, unit, SIZE_UNITS, "an amount of data"))
    if not SIZE_UNITS["kB"] <= size <= MAX_BYTES:
        raise ValueError("should be at least 1kB, and at most a million TB")
    return size


def parse_temperature_k(value: Any) -> float:
    """``60C``, ``333K`` or ``140F`` to kelvin. Raises ValueError that names the fix."""
    if isinstance(value, Kelvins):
        return float(value)
    text = value.replace("°", "") if isinstance(value, str) else value
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or not match[2]:
        raise ValueError("should be a temperature with its unit, such as 60C, 333K or 140F")
    number, unit = Decimal(match[1]), match[2]
    if unit not in TEMPERATURE_UNITS:
        raise ValueError(f"is a temperature with one of the units {', '.join(TEMPERATURE_UNITS)}")
    zero, step = TEMPERATURE_UNITS[unit]
    kelvin = float(number * step + zero)
    if not 0 < kelvin <= MAX_K:
        raise ValueError("should be above 0K and at most 5000K")
    return kelvin


def _split(value: Any, what: str, examples: str, with_unit: str) -> tuple[Decimal, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == 0:
            return Decimal(0), ""
        raise ValueError(f"needs a unit: say {with_unit}")
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"should be {what}, such as {examples}")
    number, unit = Decimal(match[1]), match[2]
    if not unit and number:
        raise ValueError(f"needs a unit: say {with_unit}")
    return number, unit


def _in_units(number: Decimal, unit: str, units: Mapping[str, int | Decimal], what: str, hint: str = "") -> Decimal:
    """The quantity in base units; 0 needs no unit."""
    if not number and not unit:
        return Decimal(0)
    if unit not in units:
        raise ValueError(f"is {what} with one of the units {', '.join(units)}{hint}")
    return number * units[unit]


def format_duration(ns: int) -> str:
    """Nanoseconds as written in YAML, in the largest unit that needs no fraction."""
    for unit, factor in reversed(DURATION_UNITS.items()):
        if ns and ns % factor == 0:
            return f"{ns // factor}{unit}"
    return f"{ns / US:g}us" if ns else "0"


def _json_schema(units: Iterable[str], example: str, sign: str, *, zero: bool = True) -> dict[str, Any]:
    pattern = rf"^\s*{sign}[0-9]{{1,20}}(\.[0-9]{{1,20}})?\s*({'|'.join(units)})\s*$"
    text = {"type": "string", "pattern": pattern}
    return {"anyOf": [{"const": 0}, text], "examples": [example]} if zero else {**text, "examples": [example]}


def _not_negative(value: Any) -> int:
    ns = parse_duration_ns(value)
    if ns < 0:
        raise ValueError("should not be negative")
    return ns


def _positive(value: Any) -> int:
    ns = _not_negative(value)
    if ns == 0:
        raise ValueError("should be longer than 0")
    return ns


def _positive_length(value: Any) -> float:
    length = parse_length_m(value)
    if length <= 0:
        raise ValueError("should be longer than 0")
    return length


_TIMES = (*DURATION_UNITS, "µs")
# "quantity" tells the JSON schema and the reference page to write the default with its unit.
_DURATION = {"quantity": "duration"}
_NOT_NEGATIVE = _json_schema(_TIMES, "20ms", r"\+?")
DURATION_SHAPES: list[dict[str, Any]] = _NOT_NEGATIVE["anyOf"]
DurationNs = Annotated[int, BeforeValidator(_not_negative), WithJsonSchema(_NOT_NEGATIVE | _DURATION)]
PositiveDurationNs = Annotated[
    int, BeforeValidator(_positive), WithJsonSchema(_json_schema(_TIMES, "3s", r"\+?", zero=False) | _DURATION)
]
SignedDurationNs = Annotated[
    int, BeforeValidator(parse_duration_ns), WithJsonSchema(_json_schema(_TIMES, "-15ms", "[+-]?") | _DURATION)
]
LengthM = Annotated[
    float,
    BeforeValidator(_positive_length),
    WithJsonSchema(_json_schema(LENGTH_UNITS, "30m", r"\+?", zero=False)),
]
BitrateBps = Annotated[
    int,
    BeforeValidator(parse_bitrate_bps),
    WithJsonSchema(_json_schema(BITRATE_UNITS, "2Mbps", r"\+?", zero=False)),
]
SizeBytes = Annotated[
    int,
    BeforeValidator(parse_size_bytes),
    WithJsonSchema(_json_schema(SIZE_UNITS, "500MB", r"\+?", zero=False)),
]
TemperatureK = Annotated[
    float,
    BeforeValidator(parse_temperature_k),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^\s*[+-]?[0-9]{{1,20}}(\.[0-9]{{1,20}})?\s*°?({'|'.join(TEMPERATURE_UNITS)})\s*$",
            "examples": ["60C"],
        }
    ),
]
