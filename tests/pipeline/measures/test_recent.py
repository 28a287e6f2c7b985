"""Rates and distributions over the last seconds: constant memory, exact within one step of the window."""

import pytest

from fusepipe.pipeline.measures.distribution import Histogram
from fusepipe.pipeline.measures.recent import RATE_WINDOW_NS, VALUES_WINDOW_NS, RecentDistribution, RecentSum

S = 1_000_000_000


def test_a_rate_follows_what_happens_now():
    frames, now_ns = RecentSum(), 5 * S
    frames.begin(now_ns)
    for _ in range(30 * 20):
        now_ns += S // 30
        frames.add(now_ns)
    assert frames.per_s(now_ns) == pytest.approx(30, rel=0.02)
    for _ in range(30):
        now_ns += S // 3
        frames.add(now_ns)
    assert frames.per_s(now_ns) == pytest.approx(3, rel=0.1), "not the mean since the start"
    assert frames.per_s(now_ns + RATE_WINDOW_NS) == 0


def test_a_rate_counts_from_the_start_and_not_from_the_first_value():
    frames = RecentSum()
    assert frames.per_s(S) == 0
    frames.begin(100 * S)
    frames.add(104 * S)
    assert frames.per_s(104 * S) == pytest.approx(0.25)


def test_old_values_leave_a_distribution():
    latency = RecentDistribution()
    for at_s in range(100):
        latency.add(at_s * S, (900 if at_s < 10 else 40) * 1_000_000)
        if at_s == 30:
            assert latency.over(at_s * S).as_ms()["max"] == 900
    recent = latency.over(99 * S)
    assert recent.as_ms()["max"] == 40 and 56 <= recent.count <= 60
    assert latency.over(99 * S + VALUES_WINDOW_NS).as_ms() == {}


def test_a_histogram_is_cumulative():
    histogram = Histogram((10, 20))
    for value_ms in (5, 10, -15, 21):
        histogram.add(value_ms * 1_000_000)
    assert histogram.as_record() == {"buckets": [[0.01, 2], [0.02, 3], [None, 4]], "sum_s": 0.051}
