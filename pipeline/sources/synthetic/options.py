"""The options of ``synthetic://SCENE?option=value&…``: parsed and checked once, here.

Every message is one line that shows the value and names what would be right. Each option is a field
of :class:`SyntheticOptions` with its own docstring; ``docs/synthetic.md`` lists them all.
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
    """Flat-field correction of a thermal camera: every ``every_ns`` the picture stands for ``length_ns``."""

    every_ns: int
    length_ns: int


@dataclass(frozen=True, slots=True)
class SyntheticOptions:
    """One camera of a synthetic rig. All times in nanoseconds; sizes in pixels, (width, height)."""

    scene: str = "street"
    """Which world is drawn: ``street``."""
    band: Band = Band.VISIBLE
    """``infrared`` or ``visible``: which of the two cameras this is."""
    light: Light = "day"
    """``day`` or ``night``: the hour in the world. Give both cameras the same."""
    size: tuple[int, int] = (640, 480)
    """``WxH`` in pixels, 16 to 8192 each, odd ones too."""
    fps: Fraction = Fraction(25)
    """Frames a second, exact: ``9``, ``29.97`` or ``30000/1001``."""
    duration_ns: int = 10_000_000_000
    """For how long the camera delivers: ``10s``, ``500ms``, ``2min``."""
    pace: Pace = "fast"
    """``fast``: a recording, read as quickly as it can be. ``real``: a live camera on the host's clock."""
    seed: int = 0
    """Which noise, jitter, drops and repeats are drawn. The world is the same for every seed."""
    parallax: float = 0.0
    """By how many pixels (at 640 wide) the nearest ground shifts between the cameras, the background by none."""
    skew_ppm: float = 0.0
    """By how many millionths the camera's clock runs fast."""
    offset_ns: int = 0
    """By how much the camera's clock is ahead from the start; may be negative."""
    phase_ns: int = 0
    """How much later than time zero the first frame is exposed (the clock knows): an unsynchronised rig."""
    jitter_ns: int = 0
    """Standard deviation of the capture timestamps; at most a quarter of the frame interval."""
    drop: float = 0.0
    """Probability, 0 to 1, that a frame never comes."""
    repeat: float = 0.0
    """Probability, 0 to 1, that a frame shows the former picture again."""
    noise: float = 0.0
    """Standard deviation of the pixel noise in 8-bit grey levels, 0 to 64."""
    ffc: FlatField | None = None
    """``EVERY,LENGTH``: the infrared picture stands for LENGTH every EVERY, timestamps go on."""
    depth: int = 8
    """Bits of an infrared pixel: ``8``, or ``16`` for radiometric counts of 0.04 kelvin."""

    @property
    def interval_ns(self) -> float:
        """The nominal time between two frames."""
        return float(1_000_000_000 / self.fps)

    @property
    def ticks(self) -> int:
        """How many frames the camera exposes in its duration, dropped ones included; at least 1."""
        return math.ceil(Fraction(self.duration_ns) * self.fps / 1_000_000_000)


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"{' or '.join(names)} ({did_you_mean(text, names)})")
        return text

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        wanted = f"a number from {low:g} to {high:g}"
        try:
            value = float(text)
        except ValueError:
            raise ValueError(wanted) from None
        if not low <= value <= high:  # also refuses nan
            raise ValueError(wanted)
        return value

    return parse


def _duration(low_ns: int, high_ns: int, wanted: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = parse_duration_ns(text)
        except ValueError:
            raise ValueError(wanted) from None
        if not low_ns <= value <= high_ns:
            raise ValueError(wanted)
        return value

    return parse


def _size(text: str) -> tuple[int, int]:
    low, high = SIZE_RANGE
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if match is None or not all(low <= int(side) <= high for side in match.groups()):
        raise ValueError(f"WIDTHxHEIGHT with sides from {low} to {high}, such as 640x480")
    return int(match[1]), int(match[2])


def _fps(text: str) -> Fraction:
    wanted = "frames a second from 0.1 to 1000, such as 25, 29.97 or 30000/1001"
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(wanted) from None
    if not Fraction(1, 10) <= value <= 1000:
        raise ValueError(wanted)
    return value


def _seed(text: str) -> int:
    if re.fullmatch(r"\d{1,18}", text) is None:
        raise ValueError("a whole number from 0 with at most 18 digits")
    return int(text)


def _flat_field(text: str) -> FlatField:
    wanted = "EVERY,LENGTH with LENGTH the shorter one, such as 5s,400ms"
    every, comma, length = text.partition(",")
    try:
        value = FlatField(parse_duration_ns(every), parse_duration_ns(length))
    except ValueError:
        raise ValueError(wanted) from None
    if not comma or not 0 < value.length_ns < value.every_ns:
        raise ValueError(wanted)
    return value


_DAY_NS = 24 * H

# option in the URL -> (field of SyntheticOptions, parser that raises ValueError("what is wanted")).
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
    """The checked options of a ``synthetic://`` URL.

    ``band`` is the role the camera has in its rig: the default for a URL without ``band=``, and a
    contradiction if the URL says otherwise. Raises :class:`UsageError`.
    """
    parts = urlsplit(url)
    scene = parts.netloc + parts.path.rstrip("/")
    if parts.scheme != SCHEME:
        raise UsageError(f"{url!r} is not a {SCHEME}:// URL, such as {SCHEME}://street?band=infrared")
    if scene not in SCENES:
        raise UsageError(f"{url!r}: there is no scene {scene!r} ({did_you_mean(scene, SCENES)})")
    values: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True):
        if name not in OPTIONS:
            raise UsageError(f"{url!r}: there is no option {name!r} ({did_you_mean(name, OPTIONS)})")
        field, parse = OPTIONS[name]
        if field in values:
            raise UsageError(f"{url!r}: {name} is given twice")
        try:
            values[field] = parse(text)
        except ValueError as problem:
            raise UsageError(f"{url!r}: {name}={text} should be {problem}") from None
    return _consistent(url, band, scene, values)


def _consistent(url: str, band: Band | None, scene: str, values: dict[str, Any]) -> SyntheticOptions:
    """Checks what only several options together can tell, and fills in the band's defaults."""
    given = values.get("band", band)
    if given is None:
        raise UsageError(f"{url!r} does not say which camera it is: add band=infrared or band=visible")
    if band is not None and given is not band:
        raise UsageError(f"{url!r} says band={given} but is used as the {band} camera: say band={band}")
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
