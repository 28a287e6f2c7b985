"""Which access units a client is sent, so that a slow client affects no one else. Pure; time is passed in.

A client starts on a key frame. While more than the limit is queued for it, access units are dropped; sending resumes
on a key frame once the queue has drained, since frames that refer to a dropped one cannot be decoded. A client is
disconnected when its queue stays over the limit, or nothing leaves its queue, for ``patience_ns``.
"""

from __future__ import annotations

from enum import Enum, auto

PATIENCE_NS = 10_000_000_000
LIMIT_BYTES = 1_000_000  # a key frame and a second of video at 8 Mbit/s: the max lag of a slow client
MIN_KEY_INTERVAL_NS = 250_000_000  # between key frames on request: each costs all clients bandwidth
MAX_PENDING_UNITS = 50  # handed to a server's loop and not delivered yet; more means that the loop is starved


class DeliveryDecision(Enum):
    """What to do with one access unit for one client."""

    SEND = auto()
    DROP = auto()
    DISCONNECT = auto()


class Delivery:
    """The queue control of one client. ``dropped`` counts units dropped after its first one.

    ``limit_bytes`` may be changed while it runs.
    """

    def __init__(self, *, limit_bytes: int = LIMIT_BYTES, patience_ns: int = PATIENCE_NS) -> None:
        self.limit_bytes = limit_bytes
        self._patience_ns = patience_ns
        self._stalled_ns: int | None = None
        self._written_bytes = self._left_bytes = 0
        self._blocked_ns: int | None = None  # since when nothing has left a queue that is not empty
        self._started = False
        self.waiting = True
        self.dropped = 0

    def offer(self, *, key: bool, queued_bytes: int, now_ns: int) -> DeliveryDecision:
        """Decides about the next unit while ``queued_bytes`` of earlier ones are still queued."""
        if self._stalled_ns is not None and queued_bytes <= self.limit_bytes // 4:
            self._stalled_ns = None
        elif self._stalled_ns is None and queued_bytes > self.limit_bytes:
            self._stalled_ns, self.waiting = now_ns, True
        self._update_blocked(queued_bytes, now_ns)
        for since_ns in (self._stalled_ns, self._blocked_ns):
            if since_ns is not None and now_ns - since_ns >= self._patience_ns:
                return DeliveryDecision.DISCONNECT
        if self._stalled_ns is not None or (self.waiting and not key):
            self.dropped += self._started
            return DeliveryDecision.DROP
        self.waiting, self._started = False, True
        return DeliveryDecision.SEND

    def wrote(self, size_bytes: int) -> None:
        """``size_bytes`` were added to the queue."""
        self._written_bytes += size_bytes

    def _update_blocked(self, queued_bytes: int, now_ns: int) -> None:
        left_bytes = self._written_bytes - queued_bytes
        if not queued_bytes or left_bytes > self._left_bytes:
            self._left_bytes, self._blocked_ns = left_bytes, None
        elif self._blocked_ns is None:
            self._blocked_ns = now_ns

    def lost(self) -> None:
        """A unit was sent incompletely: resume on a key frame."""
        self.waiting = True
        self.dropped += 1

    def pause(self) -> None:
        """The client paused: resume on a key frame."""
        self.waiting = True

    @property
    def stalled(self) -> bool:
        """Whether the queue is over the limit."""
        return self._stalled_ns is not None

    @property
    def wants_key(self) -> bool:
        """Whether only a key frame would be sent now."""
        return self.waiting and not self.stalled
