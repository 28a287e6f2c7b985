"""What ``benchmarks/rig_window.py`` makes of two readings."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from rig_window import Reading, Window, quantile

INF = float("inf")


def test_a_quantile_is_linear_within_its_bucket() -> None:
    buckets = {0.01: 50.0, 0.02: 90.0, 0.05: 100.0, INF: 100.0}
    assert quantile(buckets, 0.25) == pytest.approx(0.005)
    assert quantile(buckets, 0.7) == pytest.approx(0.015)
    assert quantile(buckets, 0.99) == pytest.approx(0.047)
    assert quantile({0.01: 1.0, INF: 100.0}, 0.99) == pytest.approx(0.01), "beyond the last bound"
    assert quantile({0.01: 0.0, INF: 0.0}, 0.99) != quantile({}, 0.99), "neither is a number"


def test_a_window_is_the_difference_of_two_readings() -> None:
    before = Reading(10.0, cpu_s=3.0, switches=1000)
    after = Reading(20.0, cpu_s=5.0, switches=9000, memory_mib=300.0, too_slow=["roof"])
    before.pairs, after.pairs = Counter(roof=100, yard=100), Counter(roof=300, yard=250)
    before.frames, after.frames = Counter(visible=100), Counter(visible=500)
    before.stage_cpu_s = Counter({"read-visible": 1, "fuse": 1})
    after.stage_cpu_s = Counter({"read-visible": 2, "fuse": 1.7})  # type: ignore[dict-item]
    before.latency["roof"] = {0.01: 100.0, 0.02: 100.0, INF: 100.0}
    after.latency["roof"] = {0.01: 100.0, 0.02: 300.0, INF: 300.0}
    window = Window.between(before, after)
    assert (window.rigs, window.too_slow, window.memory_mib) == (2, 1, 300.0)
    assert window.pairs_per_s == pytest.approx(35) and window.slowest_pairs_per_s == pytest.approx(15)
    assert window.cpu_ms == pytest.approx(2000 / 350) and window.stages_cpu_ms == pytest.approx(1700 / 350)
    assert window.switches == pytest.approx(8000 / 350)
    assert window.p50_ms == pytest.approx(15) and window.p99_ms == pytest.approx(19.9)
    assert window.camera_s == pytest.approx((1 / 400,)) and list(window.stage_s.values()) == pytest.approx([0.7 / 350])


def test_stages_are_in_the_order_of_the_pairs_whatever_thread_started_first() -> None:
    before, after = Reading(0.0), Reading(1.0)
    after.pairs, after.latency["roof"] = Counter(roof=1), {INF: 1.0}
    after.stage_cpu_s = Counter({"write-1": 4, "fuse": 3, "read-visible": 9, "watch": 5, "pair": 1, "register": 2})
    assert Window.between(before, after).stage_s == {"pair": 1, "register": 2, "fuse": 3, "watch": 5, "write-1": 4}
    assert list(Window.between(before, after).stage_s)[:3] == ["pair", "register", "fuse"]
