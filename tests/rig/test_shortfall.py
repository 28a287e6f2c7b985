"""When a run is said to have fused too little."""

import pytest

from fusepipe.rig.shortfall import IN_FLIGHT, shortfall


@pytest.mark.parametrize(
    ("fused", "read", "whole", "expected"),
    [
        (50, 100, True, ""),
        (49, 100, True, "only 49 of 100"),
        (0, 100, True, "no pair was fused"),
        (1, 1 + IN_FLIGHT, False, ""),
        (3, 40, False, "only 3 of 16"),
        (0, 40, False, "no pair was fused"),
    ],
)
def test_the_share_of_the_possible_pairs(fused, read, whole, expected):
    text = shortfall({"fused": fused, "held": 9}, {"infrared": read, "visible": 3 * read}, {}, whole=whole)
    assert text.startswith(expected) and bool(text) == bool(expected)


@pytest.mark.parametrize(
    ("pairs", "skipped", "advice"),
    [
        ({"fused": 1}, {"no visible partner": 8}, "same file stem"),
        ({"fused": 1, "held": 9}, {}, "sync.tolerance"),
        ({"fused": 1, "single": 9}, {}, "sync.offset"),
        ({"fused": 1}, {"unreadable infrared": 9}, "damaged input"),
    ],
)
def test_the_advice_names_the_cause(pairs, skipped, advice):
    assert advice in shortfall(pairs, {"infrared": 10, "visible": 10}, skipped, whole=True)


def test_a_camera_that_delivered_nothing():
    assert "one camera delivered no frames" in shortfall({"single": 5}, {"visible": 5}, {}, whole=False)
