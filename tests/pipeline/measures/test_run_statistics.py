"""Percentiles in constant memory, within the accuracy the docstring states."""

import threading
import time

import numpy as np
import pytest

from fusepipe.pipeline.measures.distribution import Distribution
from fusepipe.pipeline.measures.recent import MAX_PENDING
from fusepipe.pipeline.measures.run_statistics import BusyTime, Durations, RunStatistics


@pytest.mark.parametrize("scale_ns", [5e3, 1e6, 3e8])
def test_percentiles_are_within_2_5_percent(scale_ns):
    values = np.random.default_rng(0).lognormal(0, 1, 20_000) * scale_ns
    distribution = Distribution()
    for value in values:
        distribution.add(int(value))
    for percent in (50, 95, 99):
        assert distribution.percentile_ns(percent) == pytest.approx(np.percentile(values, percent), rel=0.03)
    assert distribution.mean_ns == pytest.approx(values.mean(), rel=1e-3)
    assert distribution.max_ns == int(values.max())


def test_negative_values_count_by_size_and_zero_is_fine():
    distribution = Distribution()
    for value in (0, -3_000_000, 0):
        distribution.add(value)
    assert distribution.as_ms()["max"] == 3.0
    assert distribution.as_ms()["p50"] == 0.0


def test_nothing_added_gives_nothing():
    assert Distribution().as_ms() == {}


def test_a_warning_is_kept_once():
    statistics = RunStatistics()
    statistics.warn("a")
    statistics.warn("a")
    assert statistics.snapshot()["warnings"] == ["a"]


def test_only_fused_pairs_count_for_the_skew():
    """The frame that is repeated for a standing camera is seconds old."""
    statistics = RunStatistics()
    statistics.pair_fused("fused", 3_000_000, 0)
    statistics.pair_fused("held", 900_000_000, 1)
    recent = statistics.recent(2)
    assert statistics.snapshot()["skew_ms"]["max"] == recent["skew_ms"]["max"] == 3.0
    assert recent["histograms"]["skew"]["buckets"][-1][1] == 1


def test_the_processor_time_of_a_stage_is_known_while_it_runs_and_kept_when_it_has_ended():
    statistics, work, end = RunStatistics(), threading.Event(), threading.Event()

    def stage():
        statistics.stage_started("fuse")
        begun_ns = time.thread_time_ns()
        while time.thread_time_ns() - begun_ns < 50_000_000:
            pass
        work.set()
        end.wait(30)
        statistics.stage_ended("fuse")

    thread = threading.Thread(target=stage)
    thread.start()
    assert work.wait(30)
    running_ns = statistics.snapshot()["stage_cpu_ns"]["fuse"]
    assert 50_000_000 <= running_ns < 1_000_000_000, "the thread's own, not the process's"
    end.set()
    thread.join()
    assert statistics.snapshot()["stage_cpu_ns"]["fuse"] >= running_ns


def test_durations_that_wait_to_be_added_count_wherever_they_are_read():
    values_ns = [(1 + number % 90) * 1_000_000 for number in range(2 * MAX_PENDING + 7)]
    durations, expected = Durations((10, 50)), Distribution()
    for now_ns, value_ns in enumerate(values_ns, 1):
        durations.add(now_ns, value_ns)
        expected.add(value_ns)
        if now_ns in (1, MAX_PENDING, len(values_ns)):
            assert durations.as_ms() == durations.recent_ms(now_ns) == expected.as_ms()
            assert durations.histogram()["buckets"][-1][1] == now_ns


def test_a_stage_is_busy_except_while_it_waits(monkeypatch):
    now_ns, worked = 0, []
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    statistics = RunStatistics()
    monkeypatch.setattr(statistics, "stage_worked", lambda *of: worked.append(of))
    busy = BusyTime(statistics, "fuse")
    for _ in range(2):
        with busy:
            now_ns += 100
        now_ns += 7
        for _ in range(2):
            with busy:
                now_ns += 1000
            now_ns += 5
        busy.completed()
    assert worked == [("fuse", 17, 1, 2117), ("fuse", 17, 1, 4234)]
