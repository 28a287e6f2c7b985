"""When a rig with ``on_overload: lighter`` changes its model. Pure; time is passed in.

Level 0 is the rig's own model, each further level a lighter one. It steps down at each overload. After ``hold_ns``
without one it asks for the cost of the next heavier model, and steps up if that fits. The hold doubles each time the
heavier model does not fit, or overloads the machine again soon after.
"""

from __future__ import annotations

from fusepipe.core.units import S

FIRST_HOLD_NS, MAX_HOLD_NS = 30 * S, 600 * S
SOON_NS = 60 * S
FITS_SHARE = 0.7  # of the time between two frames that a heavier model may take


class Ladder:
    """``level`` 0 .. ``lowest``."""

    def __init__(self, lowest: int) -> None:
        self.level, self._lowest = 0, lowest
        self._hold_ns = FIRST_HOLD_NS
        self._calm_since_ns = 0
        self._raised_ns: int | None = None  # when it last stepped up

    def overloaded(self, now_ns: int) -> bool:
        """Takes an overload; whether it stepped down."""
        self._calm_since_ns = now_ns
        if self.level >= self._lowest:
            return False
        if self._raised_ns is not None:
            soon = now_ns - self._raised_ns < SOON_NS
            self._hold_ns = min(2 * self._hold_ns, MAX_HOLD_NS) if soon else FIRST_HOLD_NS
            self._raised_ns = None
        self.level += 1
        return True

    def leave_out(self) -> None:
        """The level that it has just stepped down to cannot be used: back to the one before, and there is one less."""
        self.level -= 1
        self._lowest -= 1

    def asks(self, now_ns: int) -> bool:
        """Whether the cost of a heavier model should be measured now."""
        return self.level > 0 and now_ns - self._calm_since_ns >= self._hold_ns

    def answer(self, now_ns: int, level: int, share: float) -> bool:
        """Takes the cost of a heavier level, as a share of the time between two frames; whether it stepped up to it."""
        self._calm_since_ns = now_ns
        if share > FITS_SHARE:
            self._hold_ns = min(2 * self._hold_ns, MAX_HOLD_NS)
            return False
        self.level = level
        self._raised_ns = now_ns
        return True
