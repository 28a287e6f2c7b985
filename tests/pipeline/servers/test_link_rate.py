"""What a viewer's link takes, found out from its reports: against a model of a link that loses what is too much."""

from collections import deque

import pytest

from fusepipe.pipeline.servers.web.link_rate import MAX_RETRANSMIT, MIN_BPS, LinkRate

S = 1_000_000_000
PACKET_BYTES = 1200


class Link:
    """Takes ``takes_bps`` and loses the rest; a report four times in a second."""

    def __init__(self, takes_bps):
        self.takes_bps, self.highest, self.now_ns = takes_bps, 0, 0

    def run(self, rate, seconds, *, offered_bps=2e6):
        """What was sent in the last second, in bit/s."""
        sent = deque(maxlen=4)
        for _ in range(4 * seconds):
            self.now_ns += S // 4
            rate.offered(round(offered_bps / 32))
            may_bps = offered_bps if rate.rate_bps is None else min(offered_bps, rate.rate_bps)
            packets = round(may_bps / 32 / PACKET_BYTES)
            for _ in range(packets):
                rate.pause_s(PACKET_BYTES)
            sent.append(8 * PACKET_BYTES * packets)
            arrived = min(packets, round(self.takes_bps / 32 / PACKET_BYTES))
            self.highest += packets if arrived else 0
            rate.report(1 - arrived / packets if arrived else 0.0, self.highest, self.now_ns)
        return sum(sent)


@pytest.mark.parametrize("takes_bps", [300e3, 800e3, 1.6e6])
def test_the_rate_settles_at_the_capacity_of_the_link(takes_bps):
    rate, link = LinkRate(), Link(takes_bps)
    link.run(rate, 15)
    for _ in range(20):
        assert 0.6 * takes_bps < link.run(rate, 1) < 1.35 * takes_bps


def test_persistent_loss_reduces_the_rate_further():
    """One lost packet in twenty hits every key frame: a limited link gets no retransmissions."""
    rate = LinkRate()
    rate.rate_bps, highest = 300e3, 0
    for look in range(6):
        for _ in range(30):
            rate.offered(4 * PACKET_BYTES)
            rate.pause_s(PACKET_BYTES)
        highest += 30
        rate.report(0.05, highest, look * S)
    assert rate.rate_bps < 280e3


def test_packets_sent_before_a_reduction_do_not_cause_another():
    rate, rates = LinkRate(), []
    for look in range(5):
        for _ in range(200):
            rate.offered(PACKET_BYTES)
            rate.pause_s(PACKET_BYTES)
        rate.report(0.9 if look < 2 else 0.95, 200 * look, look * S)
        rates.append(rate.rate_bps)
    assert rates[0] is None and rates[1] == rates[2] > rates[3] == rates[4]


def test_reports_count_for_the_packets_they_speak_of():
    """Players report more often than packets arrive over a slow link; empty reports contain no loss."""
    rate, highest = LinkRate(), 0
    for quarter in range(9):
        for _ in range(50):
            rate.offered(PACKET_BYTES)
            rate.pause_s(PACKET_BYTES)
        highest += 50
        for report in range(10):
            rate.report(0.9 if not report else 0.0, highest, quarter * S // 4 + report)
    assert rate.rate_bps < 0.15 * 200 * 8 * PACKET_BYTES


def test_a_link_that_takes_all_is_never_paced_and_one_that_is_wide_again_is_free_again():
    rate, link = LinkRate(), Link(10e6)
    link.run(rate, 20)
    assert rate.rate_bps is None and rate.limit_bytes is None and rate.pause_s(PACKET_BYTES) == 0
    link.takes_bps = 300e3
    link.run(rate, 5)
    assert rate.rate_bps < 500e3
    link.takes_bps = 10e6
    link.run(rate, 40)
    assert rate.rate_bps is None


def test_a_link_on_which_nothing_arrives_is_tried_at_the_least_rate():
    """A report speaks only of packets before the last that arrived: it names no loss here."""
    rate, link = LinkRate(), Link(10e6)
    link.run(rate, 3)
    link.takes_bps = 0
    link.run(rate, 5)
    assert rate.rate_bps == MIN_BPS
    assert rate.pause_s(PACKET_BYTES) == pytest.approx(8 * PACKET_BYTES / MIN_BPS)


def test_packets_are_sent_again_for_a_moment_of_loss_only():
    rate = LinkRate()
    assert sum(rate.may_retransmit() for _ in range(1000)) == MAX_RETRANSMIT
    for _ in range(40):
        rate.pause_s(PACKET_BYTES)
    assert sum(rate.may_retransmit() for _ in range(1000)) == 10, "a quarter of the packets sent"
    rate.rate_bps = 300e3
    for _ in range(400):
        rate.pause_s(PACKET_BYTES)
    assert not rate.may_retransmit(), "a limited link has no capacity for them"
