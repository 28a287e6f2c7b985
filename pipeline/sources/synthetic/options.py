"""The options of ``synthetic://SCENE?option=value&…``: parsing and validation.

Every error message is one line with the value and what is expected. Each option is a field of :class:`SyntheticOptions`
with its own docstring; ``docs/synthetic.md`` lists them all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band
from fusepipe.core.suggest import did_you_mean
from fusepipe.core.units import H, parse_duration_ns

SCENES = ("street",)
SCHEME = "synthetic"
SIZE_RANGE = (16, 8192)

Light = Literal["day", "night"]
Pace = Literal["fast", "real"]


@dataclass(frozen=True, slots=True)
class FlatField:
    """Flat-field correction of a thermal camera: every ``every_ns`` the image freezes for ``length_ns``."""

    every_ns: int
    length_ns: int


@dataclass(frozen=True, slots=True)
class SyntheticOptions:
    """One camera of a synthetic rig. All times in nanoseconds; sizes in pixels, (width, height)."""

    scene: str = "street"
    """The scene: ``street``."""
    band: Band = Band.VISIBLE
    """Which of the two cameras: ``infrared`` or ``visible``."""
    light: Light = "day"
    """``day`` or ``night``; use the same for both cameras."""
    size: tuple[int, int] = (640, 480)
    """``WxH`` in pixels, 16 to 8192 each, even or odd."""
    fps: Fraction = Fraction(25)
    """Frames per second, exact: ``9``, ``29.97`` or ``30000/1001``."""
    duration_ns: int = 10_000_000_000
    """Duration of the stream: ``10s``, ``500ms``, ``2min``."""
    pace: Pace = "fast"
    """``fast``: a recording, read as fast as possible. ``real``: a live camera on the host clock."""
    seed: int = 0
    """Random seed of noise, jitter, drops and repeats. The scene does not depend on it."""
    parallax: float = 0.0
    """Parallax of the nearest ground between the cameras in pixels (at a width of 640); 0 for the background."""
    skew_ppm: float = 0.0
    """Clock skew in ppm; above 0 the camera's clock runs fast."""
    offset_ns: int = 0
    """Initial offset of the camera's clock; may be negative."""
    phase_ns: int = 0
    """Delay of the first exposure, included in the timestamps: an unsynchronised rig."""
    jitter_ns: int = 0
    """Standard deviation of the capture timestamps; at most a quarter of the frame interval."""
    drop: float = 0.0
    """Probability (0..1) that a frame is dropped."""
    repeat: float = 0.0
    """Probability (0..1) that a frame repeats the previous image."""
    noise: float = 0.0
    """Standard deviation of the pixel noise in 8-bit grey levels, 0 to 64."""
    ffc: FlatField | None = None
    """``EVERY,LENGTH``: the infrared image freezes for LENGTH every EVERY; timestamps continue."""
    depth: int = 8
    """Bit depth of infrared: ``8``, or ``16`` for radiometric counts of 0.04 K."""

    @property
    def interval_ns(self) -> float:
        """The nominal time between two frames."""
        return float(1_000_000_000 / self.fps)

    @property
    def ticks(self) -> int:
        """Number of frames exposed, including dropped ones; at least 1."""
        return math.ceil(Fraction(self.duration_ns) * self.fps / 1_000_000_000)


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"{' or '.join(names)} ({did_you_mean(text, names)})")
        return text

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        expected = f"a number from {low:g} to {high:g}"
        try:
            value = float(text)
        except ValueError:
            raise ValueError(expected) from None
        if not low <= value <= high:  # also refuses nan
            raise ValueError(expected)
        return value

    return parse


def _duration(low_ns: int, high_ns: int, expected: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = parse_duration_ns(text)
        except ValueError:
            raise ValueError(expected) from None
        if not low_ns <= value <= high_ns:
            raise ValueError(expected)
        return value

    return parse


def _size(text: str) -> tuple[int, int]:
    low, high = SIZE_RANGE
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if match is None or not all(low <= int(side) <= high for side in match.groups()):
        raise ValueError(f"WIDTHxHEIGHT with sides from {low} to {high}, such as 640x480")
    return int(match[1]), int(match[2])


def _fps(text: str) -> Fraction:
    expected = "frames per second from 0.1 to 1000, such as 25, 29.97 or 30000/1001"
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(expected) from None
    if not Fraction(1, 10) <= value <= 1000:
        raise ValueError(expected)
    return value


def _seed(text: str) -> int:
    if re.fullmatch(r"\d{1,18}", text) is None:
        raise ValueError("an integer from 0 with at most 18 digits")
    return int(text)


def _flat_field(text: str) -> FlatField:
    expected = "EVERY,LENGTH with LENGTH the shorter one, such as 5s,400ms"
    every, comma, length = text.partition(",")
    try:
        value = FlatField(parse_duration_ns(every), parse_duration_ns(length))
    except ValueError:
        raise ValueError(expected) from None
    if not comma or not 0 < value.length_ns < value.every_ns:
        raise ValueError(expected)
    return value


_DAY_NS = 24 * H

# option in the URL -> (field of SyntheticOptions, parser that raises ValueError("what is expected")).
OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "band": ("band", lambda text: Band(_choice("infrared", "visible")(text))),
    "light": ("light", _choice("day", "night")),
    "size": ("size", _size),
    "fps": ("fps", _fps),
    "duration": (
        "duration_ns",
        _duration(1, 1000 * _DAY_NS, "a time above 0 and up to 24000h, such as 10s, 500ms or 2min"),
    ),
    "pace": ("pace", _choice("fast", "real")),
    "seed": ("seed", _seed),
    "parallax": ("parallax", _number(-100, 100)),
    "skew_ppm": ("skew_ppm", _number(-100_000, 100_000)),
    "offset": ("offset_ns", _duration(-_DAY_NS, _DAY_NS, "a time from -24h to 24h, such as -15ms")),
    "phase": ("phase_ns", _duration(0, _DAY_NS, "a time from 0s to 24h, such as 13ms")),
    "jitter": ("jitter_ns", _duration(0, _DAY_NS, "a time from 0s, such as 2ms")),
    "drop": ("drop", _number(0, 1)),
    "repeat": ("repeat", _number(0, 1)),
    "noise": ("noise", _number(0, 64)),
    "ffc": ("ffc", _flat_field),
    "depth": ("depth", lambda text: int(_choice("8", "16")(text))),
}


def parse_options(url: str, band: Band | None = None) -> SyntheticOptions:
    """The validated options of a ``synthetic://`` URL.

    ``band`` is the role of the camera in its rig: the default for a URL without ``band=``; another value in the URL is
    an error. Raises :class:`UsageError`.
    """
    parts = urlsplit(url)
    scene = parts.netloc + parts.path.rstrip("/")
    if parts.scheme != SCHEME:
        raise UsageError(f"{url!r} is not a {SCHEME}:// URL, such as {SCHEME}://street?band=infrared")
    if scene not in SCENES:
        raise UsageError(f"{url!r}: unknown scene {scene!r} ({did_you_mean(scene, SCENES)})")
    values: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True):
        if name not in OPTIONS:
            raise UsageError(f"{url!r}: unknown option {name!r} ({did_you_mean(name, OPTIONS)})")
        field, parse = OPTIONS[name]
        if field in values:
            raise UsageError(f"{url!r}: {name} is given twice")
        try:
            values[field] = parse(text)
        except ValueError as problem:
            raise UsageError(f"{url!r}: {name}={text} should be {problem}") from None
    return _consistent(url, band, scene, values)


def _consistent(url: str, band: Band | None, scene: str, values: dict[str, Any]) -> SyntheticOptions:
    """Checks combinations of options and applies the defaults of the band."""
    given = values.get("band", band)
    if given is None:
        raise UsageError(f"{url!r}: band is missing: add band=infrared or band=visible")
    if band is not None and given is not band:
        raise UsageError(f"{url!r} has band={given} but is used as the {band} camera: use band={band}")
    options = replace(SyntheticOptions(scene=scene), **{**values, "band": given})
    if given is Band.VISIBLE:
        for name in ("ffc", "depth"):
            if OPTIONS[name][0] in values:
                raise UsageError(f"{url!r}: {name} is an option of the infrared camera only")
    elif "size" not in values:
        options = replace(options, size=(320, 240))
    if options.jitter_ns * 4 > options.interval_ns:
        limit = f"{options.interval_ns / 4e6:.3g}ms at {float(options.fps):g} fps"
        raise UsageError(f"{url!r}: jitter should be at most a quarter of the frame interval, {limit}")
    return options
