"""Percentiles in constant memory, within the accuracy the docstring states."""

import numpy as np
import pytest

from fusepipe.pipeline.statistics import Distribution, RunStatistics


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
