"""Telemetry rows: what thermal cores write about themselves into rows above or below their 16-bit image.

Layouts: FLIR Lepton engineering datasheet 500-0659-00-09, telemetry row A and its status bits; FLIR Boson datasheet
102-2013-40, table of the telemetry line. A word is the count of one pixel. Rows of other cameras are cut off only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.planes import Pixels
from fusepipe.core.radiometry import ZERO_CELSIUS_K

TelemetryCamera = Literal["lepton", "boson", "other"]
FfcState = Literal["never", "imminent", "in progress", "complete"]
Words = NDArray[np.uint16]

CAMERA_CELSIUS = (-60.0, 130.0)  # the temperatures that a core can have: others are no temperatures
BOSON_REVISIONS = (1, 2, 3)
_FFC: tuple[FfcState, ...] = ("never", "imminent", "in progress", "complete")
_LEPTON_2_WIDTH = 80


class UnknownTelemetryError(ValueError):
    """Rows that are not the telemetry of the camera they should be of; the argument says why."""


@dataclass(frozen=True, slots=True)
class CameraTelemetry:
    """What a core says about one image.

    ``ffc``: the state of its flat-field correction, during which the image stands still. ``frame``: the core's own
    counter. ``fpa_c`` and ``housing_c``: temperatures of sensor and housing in degrees Celsius. ``uptime_s``: since its
    start. ``since_ffc_s``: since its last correction. ``None``: not in the rows.
    """

    revision: int
    frame: int
    ffc: FfcState
    fpa_c: float
    housing_c: float | None = None
    uptime_s: float | None = None
    since_ffc_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def lepton_telemetry(words: Words) -> CameraTelemetry:
    """Of the 80 words of telemetry row A of a Lepton; 32-bit values have their low word first.

    Raises :class:`UnknownTelemetryError`.
    """
    _require(words, 80)
    revision = int(words[0])
    if not revision:
        raise UnknownTelemetryError("revision 0")
    uptime_ms = _long(words, 1)
    return CameraTelemetry(
        revision,
        frame=_long(words, 20),
        ffc=_FFC[int(words[3]) >> 4 & 3],
        fpa_c=_celsius(int(words[24]), 100),
        housing_c=_celsius(int(words[26]), 100),
        uptime_s=uptime_ms / 1000,
        since_ffc_s=max(0, uptime_ms - _long(words, 30)) / 1000,
    )


def boson_telemetry(words: Words) -> CameraTelemetry:
    """Of the words of the telemetry line of a Boson; 32-bit values have their high word first.

    Raises :class:`UnknownTelemetryError`.
    """
    _require(words, 142)
    revision = int(words[0])
    if revision not in BOSON_REVISIONS:
        raise UnknownTelemetryError(f"revision {revision}")
    frame, frame_rate = _long(words, 43, -1), int(words[28])
    since_ffc = max(0, frame - _long(words, 45, -1))
    return CameraTelemetry(
        revision,
        frame=frame,
        ffc=_FFC[int(words[38]) & 3],
        fpa_c=_celsius(int(words[47]), 10),
        uptime_s=_long(words, 141, -1) / 1000,
        since_ffc_s=since_ffc / frame_rate if frame_rate else None,
    )


def _require(words: Words, count: int) -> None:
    if len(words) < count:
        raise UnknownTelemetryError(f"{len(words)} of {count} words")


def _long(words: Words, low: int, step: int = 1) -> int:
    """A 32-bit value: ``low`` is the place of its low word, ``step`` leads to its high word."""
    return int(words[low]) | int(words[low + step]) << 16


def _celsius(kelvin: int, parts: int) -> float:
    """Degrees Celsius of a value in ``parts`` of a kelvin."""
    celsius = round(kelvin / parts - ZERO_CELSIUS_K, 2)
    if not CAMERA_CELSIUS[0] <= celsius <= CAMERA_CELSIUS[1]:
        raise UnknownTelemetryError(f"a sensor of {celsius:g} degrees Celsius")
    return celsius


_READERS: dict[TelemetryCamera, Callable[[Words], CameraTelemetry]] = {
    "lepton": lepton_telemetry,
    "boson": boson_telemetry,
}


@dataclass(frozen=True, slots=True)
class TelemetryRows:
    """Where the telemetry rows of a camera are: ``rows`` (0: as many as the camera has), above or below the image."""

    camera: TelemetryCamera
    rows: int = 0
    above: bool = False

    def count(self, width: int) -> int:
        """How many rows an image of this width has: three of a Lepton of 80 pixels, else two, unless ``rows`` says."""
        return self.rows or (3 if self.camera == "lepton" and width <= _LEPTON_2_WIDTH else 2)

    def cut(self, pixels: Pixels) -> Pixels:
        """The image without the rows, HxW or HxWxC, a view."""
        rows = self.count(pixels.shape[1])
        return pixels[rows:] if self.above else pixels[: len(pixels) - rows]

    def read(self, pixels: Pixels) -> CameraTelemetry | None:
        """The telemetry of an image with its rows, HxW counts; ``None`` of an ``other`` camera.

        Raises :class:`UnknownTelemetryError`.
        """
        reader = _READERS.get(self.camera)
        if reader is None:
            return None
        if pixels.dtype != np.uint16 or pixels.ndim != 2:
            raise UnknownTelemetryError("the image has no 16-bit counts")
        rows = self.count(pixels.shape[1])
        return reader(np.asarray(pixels[:rows] if self.above else pixels[-rows:], np.uint16).ravel())
