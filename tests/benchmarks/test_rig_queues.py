"""The simulation of rigs against what queueing theory says of simple cases."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from rig_queues import LOCK_TAKES, LOCK_WAIT_S, Costs, bottleneck, simulate, spread_of, worst_error

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


NAMED = replace(COSTS, stages=(0.001, 0.002, 0.003, 0.001), names=("pair", "register", "fuse", "write-1"))


def test_rigs_of_one_process_wait_for_the_interpreter_lock_and_a_rig_alone_does_not() -> None:
    apart, together = (simulate(NAMED, 8, 10, cores=8, seconds=2, processes=count) for count in (8, 1))
    takes = sum(LOCK_TAKES[name] for name in NAMED.names) + LOCK_TAKES["read"]
    waits_s = together.latency_p50_s - apart.latency_p50_s
    assert 0.3 * takes * LOCK_WAIT_S < waits_s < 1.5 * takes * LOCK_WAIT_S
    alone = simulate(NAMED, 1, 10, cores=8, seconds=2, processes=1)
    assert alone.latency_p50_s == pytest.approx(apart.latency_p50_s, abs=0.001)


def test_turns_in_fusion_limit_a_process_and_a_second_process_helps() -> None:
    costs = Costs((0.001, 0.001), (0.0005, 0.0005, 0.002, 0.0005), names=NAMED.names, turns=True)
    limit = 1 / (0.002 + LOCK_TAKES["fuse"] * LOCK_WAIT_S)  # pairs/s of one rig at a time
    one, two = (simulate(costs, 12, 25, cores=3.9, seconds=2, processes=count).pairs_per_s for count in (1, 2))
    assert 0.7 * limit < one < 1.05 * limit < 300
    assert two > 1.25 * one
    assert simulate(costs, 12, 25, cores=8, seconds=2, processes=1).pairs_per_s > 1.25 * one, "half as many as cores"


def test_the_spread_of_one_rigs_latency_gives_that_of_its_stages() -> None:
    model = simulate(replace(COSTS, spread=0.4), rigs=1, fps=10, cores=2, seconds=8)
    assert model.latency_p50_s == pytest.approx(0.020, abs=0.004) and model.latency_p99_s > 1.3 * model.latency_p50_s
    assert spread_of(COSTS, 10, 2, model.latency_p99_s) == replace(COSTS, spread=0.4)


def test_the_worst_error_is_relative_to_what_was_measured() -> None:
    assert worst_error([9, 11], [10, 10]) == pytest.approx(0.1)
