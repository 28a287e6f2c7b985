"""The result of verifying an engine: how far its images are from those of the fp32 network.

Computed by :mod:`fusepipe.engines.builder.verify` and stored in the manifest.
"""

from __future__ import annotations

from dataclasses import asdict, field
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(strict=True)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Agreement:
    """Difference between the engine's images and those of one reference, over ``pairs`` pairs.

    ``max_abs`` is the largest difference of a pixel in grey levels. ``metrics`` maps each fusion metric to its mean
    for the ``reference`` and the ``engine``, and to ``change_percent``, relative to the reference.
    """

    reference: str
    pairs: int
    psnr_db: float
    max_abs: int
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    def text(self) -> str:
        """One line for people."""
        return f"{self.psnr_db:.1f} dB, at most {self.max_abs} grey levels off {self.reference} on {self.pairs} pairs"


@dataclass(frozen=True, slots=True, config=_STRICT)
class Verification:
    """All comparisons of one engine.

    ``subject`` says what produced the compared images; ``executed`` is true if that was the engine itself and not an
    emulation on the CPU. ``notes`` lists comparisons that were skipped, with the reason.
    """

    subject: str
    executed: bool
    agreements: tuple[Agreement, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON output."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people: the subject, then a line or two an agreement, then the notes."""
        lines = [self.subject]
        for agreement in self.agreements:
            lines.append(agreement.text())
            if agreement.metrics:
                changes = [f"{name} {values['change_percent']:+.2f} %" for name, values in agreement.metrics.items()]
                lines.append(", ".join(changes))
        return [*lines, *self.notes]
