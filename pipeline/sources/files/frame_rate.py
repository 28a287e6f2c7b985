"""Frame rates as exact fractions."""

from __future__ import annotations

from fractions import Fraction


def exact_rate(fps: float) -> Fraction:
    """The exact rate that a decimal number denotes: 29.97 is 30000/1001, 0.0002 is 1/5000."""
    if fps >= 1:
        return Fraction(fps).limit_denominator(1001)
    return 1 / Fraction(1 / fps).limit_denominator(1001)
