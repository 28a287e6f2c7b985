"""Says when two cameras' own clocks may not agree with each other, though each is plausible to the host. Pure.

A clock that is a few hundred milliseconds behind looks like a camera that is slow by as much, and its frames would be
paired with others than those that were captured with them.
"""

from __future__ import annotations

from fusepipe.core.units import MS

APART_NS = 150 * MS  # delays of two cameras that differ by more are worth a warning
SAME_NS = 50 * MS  # differences that differ by less are the same, which is said once


class ClockComparison:
    """Compares the clocks of two cameras whenever both are known anew: after a connection, or when one was set."""

    def __init__(self) -> None:
        self._known = False
        self._said_ns: int | None = None  # the difference that was said last

    def advice(self, infrared_ns: int | None, visible_ns: int | None, set_ns: int) -> str:
        """As :func:`clock_advice`, with ``None`` where a clock is not known; empty where nothing is new."""
        both = infrared_ns is not None and visible_ns is not None
        news, self._known = both and not self._known, both
        if not news or infrared_ns is None or visible_ns is None:
            return ""
        if self._said_ns is not None and abs(infrared_ns - visible_ns - self._said_ns) <= SAME_NS:
            return ""
        if text := clock_advice(infrared_ns, visible_ns, set_ns):
            self._said_ns = infrared_ns - visible_ns
        return text


def clock_advice(infrared_ns: int, visible_ns: int, set_ns: int = 0) -> str:
    """One line where ``sync.offset``, which is ``set_ns``, leaves the clocks apart; else empty.

    ``infrared_ns`` and ``visible_ns``: least time from capture to arrival by each camera's clock.
    """
    offset_ns = infrared_ns - visible_ns
    if abs(offset_ns - set_ns) <= APART_NS:
        return ""
    return (
        f"by the cameras' own clocks infrared frames arrive at least {_ms(infrared_ns)} after their capture and "
        f"visible ones {_ms(visible_ns)}: unless the cameras differ so much, one of their clocks is wrong and frames "
        f"of different times are fused; set both clocks by NTP, or correct it by "
        f"sync: {{offset: {offset_ns / MS:.0f}ms}}"
    )


def _ms(value_ns: int) -> str:
    return f"{value_ns / MS:.0f} ms"
