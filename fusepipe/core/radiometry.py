"""What the counts of a thermal camera measure: the conversion of counts to temperatures and back.

Either the value of a count is linear, ``gain * count + offset`` in the camera's unit, or the count is a radiance and
Planck's law leads from it to the temperature, as in the radiometric files of FLIR:

    T = B / ln(R1 / (R2 (S + O)) + F)    with the object's signal S = gain * count + offset

(FLIR's calibration of its cameras; Minkina and Dudzik, "Infrared Thermography: Errors and Uncertainties", 2009, 2.3;
S is the count corrected for emissivity and atmosphere.)

Counts stay counts through pairing and registration; whoever needs a temperature converts the few that it shows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Unit = Literal["counts", "celsius", "kelvin"]

ZERO_CELSIUS_K = 273.15
Kelvin = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlanckConstants:
    """Constants of one calibrated camera: signal = r1 / (r2 (exp(b / T) - f)) - o, with T in kelvin."""

    r1: float
    b: float
    f: float
    o: float
    r2: float

    def __post_init__(self) -> None:
        if not np.isfinite([self.r1, self.b, self.f, self.o, self.r2]).all() or min(self.r1, self.b, self.r2) <= 0:
            raise ValueError(f"r1, b and r2 are positive numbers: {self = }")

    def temperature(self, signal: ArrayLike) -> Kelvin:
        """The temperature in kelvin of signals, same shape, float64; NaN where a signal is below that of 0 K."""
        signal = np.asarray(signal, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            kelvin: Kelvin = self.b / np.log(self.r1 / (self.r2 * (signal + self.o)) + self.f)
        return np.where((signal + self.o > 0) & (kelvin > 0), kelvin, np.nan)

    def signal(self, kelvin: ArrayLike) -> NDArray[np.float64]:
        """The inverse of :meth:`temperature`, from 0 K on; infinite where exp(b / T) is f."""
        with np.errstate(over="ignore", divide="ignore"):
            exponential = np.exp(self.b / np.asarray(kelvin, np.float64))
            signal: NDArray[np.float64] = self.r1 / (self.r2 * (exponential - self.f)) - self.o
        return signal


@dataclass(frozen=True, slots=True)
class Radiometry:
    """How the counts of a camera become temperatures.

    Without ``planck`` the value of a count in ``unit`` is ``gain * count + offset``, and the unit ``counts`` has no
    temperature. With ``planck``, ``gain * count + offset`` is the object's signal, and ``unit`` is ``kelvin``.
    """

    unit: Unit = "counts"
    gain: float = 1.0
    offset: float = 0.0
    planck: PlanckConstants | None = None

    def __post_init__(self) -> None:
        if not np.isfinite([self.gain, self.offset]).all() or self.gain <= 0:
            raise ValueError(f"the gain is positive and the offset a number: {self.gain = }, {self.offset = }")
        if self.planck is not None and self.unit != "kelvin":
            raise ValueError(f"Planck's law gives kelvin: {self.unit = }")

    @property
    def thermal(self) -> bool:
        """Whether counts have a temperature: the unit is celsius or kelvin."""
        return self.unit != "counts"

    def kelvin(self, counts: ArrayLike) -> Kelvin:
        """The temperatures of counts, same shape, float64; NaN for counts without one.

        Raises ``ValueError`` where the unit is ``counts``: ask :attr:`thermal` first.
        """
        values = np.asarray(counts, np.float64) * self.gain + self.offset
        if self.planck is not None:
            return self.planck.temperature(values)
        return values + self._zero_k()

    def celsius(self, counts: ArrayLike) -> NDArray[np.float64]:
        """As :meth:`kelvin`, in degrees Celsius."""
        return self.kelvin(counts) - ZERO_CELSIUS_K

    def counts(self, kelvin: ArrayLike) -> NDArray[np.float64]:
        """The counts of temperatures in kelvin, not rounded nor clipped, increasing; the inverse of :meth:`kelvin`.

        Raises ``ValueError`` where the unit is ``counts``.
        """
        zero = self._zero_k()
        values = np.asarray(kelvin, np.float64) - zero if self.planck is None else self.planck.signal(kelvin)
        counts: NDArray[np.float64] = (values - self.offset) / self.gain
        return counts

    def _zero_k(self) -> float:
        if self.unit == "counts":
            raise ValueError("counts without a unit have no temperature")
        return ZERO_CELSIUS_K if self.unit == "celsius" else 0.0

    def to_json(self) -> str:
        """One line of JSON for the metadata of a file; :func:`radiometry_of_json` reads it."""
        return json.dumps(asdict(self), separators=(",", ":"))


def radiometry_of_json(text: str) -> Radiometry:
    """The radiometry that :meth:`Radiometry.to_json` wrote. Raises ``ValueError`` for anything else."""
    try:
        fields = json.loads(text)
        constants = fields["planck"]
        planck = None if constants is None else PlanckConstants(**{key: float(constants[key]) for key in constants})
        if fields["unit"] not in ("counts", "celsius", "kelvin"):
            raise ValueError(f"unknown unit {fields['unit']!r}")
        return Radiometry(fields["unit"], float(fields["gain"]), float(fields["offset"]), planck)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"is not a radiometry: {error!r}") from error
