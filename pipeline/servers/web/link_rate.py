"""What a viewer's link takes, from the losses that its player reports. Pure; time is passed in.

UDP leaves this machine at any rate. A thin link loses it on the way, and each loss makes the player ask for more. So
what got through is taken for what the link takes, and grows again while nothing is lost, as in the loss-based
controller of Google's congestion control (draft-ietf-rmcat-gcc-02, section 6).

The picture is encoded once for all. A viewer whose link takes less gets its packets at that pace and fewer pictures:
when more than ``QUEUE_S`` of them wait, none is added until most have left, and then from a key frame on.
"""

from __future__ import annotations

LOSSY = 0.10  # a share of packets from which the link counts as too thin
CLEAN = 0.02  # and, once it does, as still too thin; up to this it may take more
MARGIN = 0.85  # of what got through
GROWTH = 1.1  # from one look to the next
LOOK_NS = 1_000_000_000  # players report a few times in a second, of a few packets each
LEAST_BPS = 50_000.0  # less is no use: a key frame now and then
QUEUE_S = 1.0
RESENT = 0.25  # of what is sent may be sent again when the player asks for it
MOST_RESENT = 64  # packets at once: those of a key frame


class LinkRate:
    """``rate_bps`` is ``None`` while nothing says that the link is thin."""

    def __init__(self) -> None:
        self.rate_bps: float | None = None
        self._resends = float(MOST_RESENT)  # packets that may be sent again
        self._looked_ns: int | None = None  # when the last look was
        self._highest = self._told = -1  # then, and of the last report
        self._sent_bytes = self._wanted_bytes = 0  # since then
        self._told_packets, self._lost_packets = 0, 0.0
        self._cut = False  # at the last look

    # -- what goes out

    def wanted(self, size_bytes: int) -> None:
        """There is so much to send; it may not be sent."""
        self._wanted_bytes += size_bytes

    def pause_s(self, size_bytes: int) -> float:
        """How long to wait before this packet is sent; counts it."""
        self._sent_bytes += size_bytes
        self._resends = min(MOST_RESENT, self._resends + RESENT)
        return 0.0 if self.rate_bps is None else 8 * size_bytes / self.rate_bps

    def may_resend(self) -> bool:
        """Whether one packet may be sent again; counts it. On a thin link a new key frame is what helps."""
        if self.rate_bps is not None or self._resends < 1:
            return False
        self._resends -= 1
        return True

    @property
    def limit_bytes(self) -> int | None:
        """How much may wait; ``None``: there is no limit by the link."""
        return None if self.rate_bps is None else round(QUEUE_S * self.rate_bps / 8)

    # -- what is heard

    def heard(self, lost: float, highest: int, now_ns: int) -> None:
        """A receiver report: the share that was lost, from 0 to 1, of the packets up to the ``highest`` number."""
        # each for the packets it speaks of: many reports come while few packets do, and name no loss
        told = max(0, highest - self._told) if self._told >= 0 else 0
        self._told_packets, self._lost_packets = self._told_packets + told, self._lost_packets + lost * told
        self._told = highest
        if self._looked_ns is not None:
            if now_ns - self._looked_ns < LOOK_NS:
                return
            per_s = 8e9 / (now_ns - self._looked_ns)
            # of packets after the highest that arrived a report says nothing, so none is lost where none arrives
            silent = highest == self._highest and self._sent_bytes > 0
            lost = 1.0 if silent else self._lost_packets / max(1, self._told_packets)
            self._judge(lost, self._sent_bytes * per_s, self._wanted_bytes * per_s)
        self._looked_ns, self._highest = now_ns, highest
        self._sent_bytes = self._wanted_bytes = 0
        self._told_packets, self._lost_packets = 0, 0.0

    def _judge(self, lost: float, sent_bps: float, wanted_bps: float) -> None:
        # Once it is thin nothing is sent again: one packet in twenty that is lost leaves no key frame whole.
        lossy = lost > (LOSSY if self.rate_bps is None else CLEAN)
        if lossy and self._cut:
            self._cut = False  # these were sent before the cut, or waited on the link behind them
            return
        self._cut = lossy
        if lossy:
            through_bps = max(LEAST_BPS, MARGIN * (1 - lost) * sent_bps)
            self.rate_bps = through_bps if self.rate_bps is None else min(self.rate_bps, through_bps)
        elif self.rate_bps is not None:
            grown_bps = GROWTH * self.rate_bps
            self.rate_bps = None if grown_bps > 2 * wanted_bps else grown_bps
