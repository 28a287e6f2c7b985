"""Presentation times of video files, from capture times."""

from __future__ import annotations

from fractions import Fraction

from fusepipe.core.frames import VIDEO_TIME_BASE
from fusepipe.core.units import S

MIN_STEP = 90  # of VIDEO_TIME_BASE: timestamps stay strictly increasing when the Matroska muxer rounds to 1 ms


def presentation_time(
    since_first_ns: int, last_pts: int, time_base: Fraction = VIDEO_TIME_BASE, min_step: int = MIN_STEP
) -> int:
    """That of a frame which was captured this long after the first one; always after ``last_pts``."""
    return max(round(Fraction(since_first_ns, S) / time_base), last_pts + min_step)
