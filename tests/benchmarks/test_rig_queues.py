"""The simulation of rigs against what queueing theory says of simple cases."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from rig_queues import HAND_OVERS, LOCK_TAKES, Costs, bottleneck, hand_over_s, simulate, spread_of, worst_error

COSTS = Costs(cameras=(0.005, 0.004), stages=(0.002, 0.010, 0.003))  # 24 ms of CPU time a pair


def test_below_saturation_every_pair_comes_out_after_the_time_of_its_stages() -> None:
    model = simulate(COSTS, rigs=1, fps=10, cores=2, seconds=5)
    assert model.pairs_per_s == pytest.approx(10, rel=0.03)
    assert model.latency_p99_s == pytest.approx(0.005 + 0.002 + 0.010 + 0.003, abs=0.004)
    assert model.cores_used == pytest.approx(10 * COSTS.pair_s, rel=0.03)


def test_with_one_core_the_threads_wait_for_each_other() -> None:
    model = simulate(COSTS, rigs=1, fps=10, cores=1, seconds=5)
    assert model.latency_p99_s == pytest.approx(COSTS.pair_s, abs=0.004)


def test_what_a_process_does_besides_takes_cores_and_delays_no_pair_while_there_are_some() -> None:
    costs = Costs(COSTS.cameras, COSTS.stages, other_s=0.050)
    assert simulate(costs, 1, 10, cores=4, seconds=5).latency_p99_s == pytest.approx(0.020, abs=0.004)
    full = simulate(costs, 8, 10, cores=2, seconds=5)
    assert full.cores_used > 1.98 and full.pairs_per_s < 0.65 * 80


@pytest.mark.parametrize("cores", [1, 2])
def test_at_saturation_all_cores_are_used_and_pairs_are_dropped(cores: int) -> None:
    assert bottleneck(COSTS, fps=10, cores=1) == 4
    model = simulate(COSTS, rigs=12 * cores, fps=10, cores=cores, seconds=5)
    assert model.cores_used == pytest.approx(cores, rel=0.01)
    assert 0.5 * cores / COSTS.pair_s < model.pairs_per_s <= 1.02 * cores / COSTS.pair_s


def test_a_stage_slower_than_the_cameras_limits_its_rig_however_many_cores_there_are() -> None:
    model = simulate(Costs((0.001, 0.001), (0.2,)), rigs=2, fps=10, cores=16, seconds=5)
    assert model.pairs_per_s == pytest.approx(2 / 0.2, rel=0.05)
    assert model.latency_p99_s < 0.2 + 0.1 + 0.02, "a pair waits at most for the one before it"


def test_handing_over_the_interpreter_lock_limits_the_pairs_of_one_process() -> None:
    costs = replace(COSTS, hand_over_s=1 / 50 / (LOCK_TAKES * HAND_OVERS))  # 50 pairs a second
    apart = simulate(costs, 8, 10, cores=4, seconds=5)
    together = simulate(costs, 8, 10, cores=4, seconds=5, one_process=True)
    assert apart.pairs_per_s == pytest.approx(80, rel=0.03)
    assert 30 < together.pairs_per_s < 54 and together.latency_p99_s > 2 * apart.latency_p99_s
    alone = simulate(costs, 1, 10, cores=4, seconds=5, one_process=True)
    assert alone.latency_p50_s == pytest.approx(0.020, abs=0.004), "a rig that is alone does not wait for the lock"


def test_a_hand_over_takes_micro_to_milliseconds() -> None:
    assert 1e-7 < hand_over_s(0.01, 3) < 0.1


def test_the_spread_of_one_rigs_latency_gives_that_of_its_stages() -> None:
    model = simulate(replace(COSTS, spread=0.4), rigs=1, fps=10, cores=2, seconds=8)
    assert model.latency_p50_s == pytest.approx(0.020, abs=0.004) and model.latency_p99_s > 1.3 * model.latency_p50_s
    assert spread_of(COSTS, 10, 2, model.latency_p99_s) == replace(COSTS, spread=0.4)


def test_the_worst_error_is_relative_to_what_was_measured() -> None:
    assert worst_error([9, 11], [10, 10]) == pytest.approx(0.1)
