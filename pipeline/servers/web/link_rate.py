"""Estimates the capacity of a viewer's link from the losses that its player reports. Pure; time is passed in.

UDP is sent at any rate; a slow link drops packets, and each loss makes the player request more. So the received rate is
taken as the capacity, and grows again while nothing is lost, as in the loss-based controller of Google Congestion
Control (draft-ietf-rmcat-gcc-02, section 6).

The video is encoded once for all viewers. A viewer on a slow link gets paced packets and fewer frames: when more than
``QUEUE_S`` of video are queued, frames are dropped until most of the queue has drained, then sending resumes on a key
frame.
"""

from __future__ import annotations

LIMIT_LOSS = 0.10  # share of lost packets above which a link is limited
KEEP_LOSS = 0.02  # share above which a limited link is reduced further; below, its rate grows
MARGIN = 0.85  # of the received rate
GROWTH = 1.1  # per interval
INTERVAL_NS = 1_000_000_000  # of evaluation: players report several times a second, a few packets each
MIN_BPS = 50_000.0  # an occasional key frame
QUEUE_S = 1.0
RETRANSMIT = 0.25  # max share of packets retransmitted on request
MAX_RETRANSMIT = 64  # packets in one burst: those of a key frame


class LinkRate:
    """``rate_bps`` is ``None`` while the link is not limited."""

    def __init__(self) -> None:
        self.rate_bps: float | None = None
        self._retransmits = float(MAX_RETRANSMIT)  # packets that may be retransmitted
        self._evaluated_ns: int | None = None  # time of the last evaluation
        self._highest = self._reported = -1  # sequence number, at the last evaluation and in the last report
        self._sent_bytes = self._offered_bytes = 0  # since then
        self._reported_packets, self._lost_packets = 0, 0.0
        self._reduced = False  # in the last evaluation

    # -- sending

    def offered(self, size_bytes: int) -> None:
        """Counts data that is due to be sent, whether it is sent or not."""
        self._offered_bytes += size_bytes

    def pause_s(self, size_bytes: int) -> float:
        """The pause before this packet is sent; counts it."""
        self._sent_bytes += size_bytes
        self._retransmits = min(MAX_RETRANSMIT, self._retransmits + RETRANSMIT)
        return 0.0 if self.rate_bps is None else 8 * size_bytes / self.rate_bps

    def may_retransmit(self) -> bool:
        """Whether one packet may be retransmitted; counts it. A limited link needs a new key frame instead."""
        if self.rate_bps is not None or self._retransmits < 1:
            return False
        self._retransmits -= 1
        return True

    @property
    def limit_bytes(self) -> int | None:
        """Max size of the queue; ``None`` if the link is not limited."""
        return None if self.rate_bps is None else round(QUEUE_S * self.rate_bps / 8)

    # -- reports

    def report(self, lost: float, highest: int, now_ns: int) -> None:
        """A receiver report: the share (0..1) of lost packets up to sequence number ``highest``."""
        # weighted by packets: many reports cover few packets and contain no loss
        packets = max(0, highest - self._reported) if self._reported >= 0 else 0
        self._reported_packets, self._lost_packets = (
            self._reported_packets + packets,
            self._lost_packets + lost * packets,
        )
        self._reported = highest
        if self._evaluated_ns is not None:
            if now_ns - self._evaluated_ns < INTERVAL_NS:
                return
            per_s = 8e9 / (now_ns - self._evaluated_ns)
            # reports do not cover packets after the highest received: if none arrives, all are lost
            silent = highest == self._highest and self._sent_bytes > 0
            lost = 1.0 if silent else self._lost_packets / max(1, self._reported_packets)
            self._evaluate(lost, self._sent_bytes * per_s, self._offered_bytes * per_s)
        self._evaluated_ns, self._highest = now_ns, highest
        self._sent_bytes = self._offered_bytes = 0
        self._reported_packets, self._lost_packets = 0, 0.0

    def _evaluate(self, lost: float, sent_bps: float, offered_bps: float) -> None:
        # A limited link gets no retransmissions: with one packet in twenty lost, no key frame arrives complete.
        lossy = lost > (LIMIT_LOSS if self.rate_bps is None else KEEP_LOSS)
        if lossy and self._reduced:
            self._reduced = False  # these packets were sent before the reduction, or queued behind such packets
            return
        self._reduced = lossy
        if lossy:
            received_bps = max(MIN_BPS, MARGIN * (1 - lost) * sent_bps)
            self.rate_bps = received_bps if self.rate_bps is None else min(self.rate_bps, received_bps)
        elif self.rate_bps is not None:
            grown_bps = GROWTH * self.rate_bps
            self.rate_bps = None if grown_bps > 2 * offered_bps else grown_bps
