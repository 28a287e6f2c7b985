"""Which access units one client gets, so that a slow one only harms itself. Pure; time is passed in.

A client starts on a key unit. When what is queued for it passes the limit it gets nothing more, until
the queue has drained and a key unit comes: a picture that refers to one which was dropped is of no use.
One whose queue stays over the limit, or of whose queue nothing leaves, for as long as the patience, is given up.
"""

from __future__ import annotations

from enum import Enum, auto

PATIENCE_NS = 10_000_000_000
# A key frame and a second of video at 8 Mbit/s; a slow client lags by no more than this.
LIMIT_BYTES = 1_000_000


class DeliveryDecision(Enum):
    SEND = auto()
    DROP = auto()
    DISCONNECT = auto()


class Delivery:
    """One client's. ``dropped`` counts the units it did not get after its first; ``limit_bytes`` may be changed."""

    def __init__(self, *, limit_bytes: int = LIMIT_BYTES, patience_ns: int = PATIENCE_NS) -> None:
        self.limit_bytes = limit_bytes
        self._patience_ns = patience_ns
        self._stalled_ns: int | None = None
        self._written_bytes = self._left_bytes = 0
        self._still_ns: int | None = None  # since when nothing has left a queue that is not empty
        self._started = False
        self.waiting = True
        self.dropped = 0

    def offer(self, *, key: bool, queued_bytes: int, now_ns: int) -> DeliveryDecision:
        """What to do with the next unit while ``queued_bytes`` of earlier ones have not left yet."""
        if self._stalled_ns is not None and queued_bytes <= self.limit_bytes // 4:
            self._stalled_ns = None
        elif self._stalled_ns is None and queued_bytes > self.limit_bytes:
            self._stalled_ns, self.waiting = now_ns, True
        self._watch(queued_bytes, now_ns)
        for since_ns in (self._stalled_ns, self._still_ns):
            if since_ns is not None and now_ns - since_ns >= self._patience_ns:
                return DeliveryDecision.DISCONNECT
        if self._stalled_ns is not None or (self.waiting and not key):
            self.dropped += self._started
            return DeliveryDecision.DROP
        self.waiting, self._started = False, True
        return DeliveryDecision.SEND

    def wrote(self, size_bytes: int) -> None:
        """So much was added to the queue."""
        self._written_bytes += size_bytes

    def _watch(self, queued_bytes: int, now_ns: int) -> None:
        left_bytes = self._written_bytes - queued_bytes
        if not queued_bytes or left_bytes > self._left_bytes:
            self._left_bytes, self._still_ns = left_bytes, None
        elif self._still_ns is None:
            self._still_ns = now_ns

    def lost(self) -> None:
        """A unit that was to be sent did not leave whole: nothing more until a key unit."""
        self.waiting = True
        self.dropped += 1

    def pause(self) -> None:
        """What comes after a pause begins with a key unit."""
        self.waiting = True

    @property
    def stalled(self) -> bool:
        """Whether nothing would be delivered now."""
        return self._stalled_ns is not None

    @property
    def wants_key(self) -> bool:
        """Whether a key unit would be delivered now, and nothing else."""
        return self.waiting and not self.stalled
