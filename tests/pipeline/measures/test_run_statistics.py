"""Percentiles in constant memory, within the accuracy the docstring states."""

import threading
import time

import numpy as np
import pytest

from fusepipe.pipeline.measures.distribution import Distribution
from fusepipe.pipeline.measures.run_statistics import RunStatistics


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
