"""Ranks and mean ranks, computed by hand."""

from __future__ import annotations

import pytest

from fusepipe.evaluation.metrics.registry import METRICS, names_of
from fusepipe.evaluation.ranks import MethodRanks, default_metrics, method_ranks, over_sets, places, ranks


def test_ranks_follow_the_direction() -> None:
    means = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert ranks(means, METRICS["MI"]) == {"a": 1, "b": 3, "c": 2}
    assert ranks(means, METRICS["MSE"]) == {"a": 3, "b": 1, "c": 2}


def test_tied_methods_share_the_mean_of_their_places() -> None:
    assert ranks({"a": 3.0, "b": 2.0, "c": 2.0, "d": 1.0}, METRICS["MI"]) == {"a": 1, "b": 2.5, "c": 2.5, "d": 4}
    assert ranks({"a": 1.0, "b": 1.0, "c": 1.0 + 1e-12}, METRICS["MSE"]) == {"a": 2, "b": 2, "c": 2}


def test_mean_ranks_by_hand() -> None:
    means = {
        "one": {"MI": 3.0, "CC": 0.5, "MSE": 10.0, "CC_bound": 0.9},
        "two": {"MI": 2.0, "CC": 0.5, "MSE": 5.0, "CC_bound": 0.9},
        "three": {"MI": 1.0, "CC": 0.4, "MSE": 20.0, "CC_bound": 0.9},
    }
    found = method_ranks(means, ["MI", "CC", "MSE", "CC_bound"])
    assert [entry.method for entry in found] == ["one", "two", "three"]
    # one: 1, 1.5, 2; two: 2, 1.5, 1; three: 3, 3, 3
    assert found[0].ranks == {"MI": 1, "CC": 1.5, "MSE": 2}
    assert [entry.mean for entry in found] == pytest.approx([1.5, 1.5, 3.0])
    assert found[0].tied == {"CC": ["two"]} and found[1].tied == {"CC": ["one"]} and found[2].tied == {}
    assert places([(entry.method, entry.mean) for entry in found]) == {"one": 1, "two": 1, "three": 3}


def test_a_metric_that_one_method_lacks_is_not_ranked() -> None:
    means = {"a": {"MI": 1.0, "VIF": None}, "b": {"MI": 2.0, "VIF": 0.5}}
    assert [(entry.method, entry.ranks) for entry in method_ranks(means, ["MI", "VIF"])] == [
        ("b", {"MI": 1}),
        ("a", {"MI": 2}),
    ]
    assert method_ranks({"a": {"MI": 1.0}}, ["MI"]) == []
    assert method_ranks(means, ["VIF"]) == []


def test_the_mean_over_sets_has_the_methods_of_all() -> None:
    first = [MethodRanks("a", {"MI": 1.0}, {}), MethodRanks("b", {"MI": 2.0}, {})]
    second = [MethodRanks("b", {"MI": 1.0}, {}), MethodRanks("a", {"MI": 3.0}, {}), MethodRanks("c", {"MI": 2.0}, {})]
    assert over_sets([first, second]) == {"b": 1.5, "a": 2.0}
    assert over_sets([]) == {}


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("paper", ["MI", "CC", "SCD", "SSIM", "Qabf", "VIF"]),
        ("common", ["MI_nats", "CC", "SCD", "SSIM_L255", "Qabf_atan", "VIF_mean"]),
        ("all", ["MI", "CC", "SCD", "SSIM", "Qabf", "VIF"]),
    ],
)
def test_each_measure_is_ranked_once(variant: str, expected: list[str]) -> None:
    assert default_metrics(names_of(variant)) == expected  # type: ignore[arg-type]
