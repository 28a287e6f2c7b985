"""The tag of an infrared recording: written and read again; anything else is refused."""

from __future__ import annotations

import pytest

from fusepipe.core.infrared_tag import InfraredTag, infrared_tag
from fusepipe.core.radiometry import PlanckConstants, Radiometry

PLANCK = PlanckConstants(21106.77, 1501.0, 1.0, -7340.0, 0.012545258)


@pytest.mark.parametrize(
    "radiometry", [None, Radiometry("celsius", 0.04, -273.15), Radiometry("kelvin", planck=PLANCK)]
)
@pytest.mark.parametrize("origin_ns", [None, 0, -40_000_000, 1_700_000_000_123_456_789])
def test_there_and_back(radiometry: Radiometry | None, origin_ns: int | None) -> None:
    tag = InfraredTag(14, "full", radiometry, origin_ns)
    assert infrared_tag(tag.to_text()) == tag


GOOD = '{"version":1,"bit_depth":14,"value_range":"full","origin_ns":0,"radiometry":null}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (GOOD, ""),
        (GOOD, "[]"),
        (GOOD, "7"),
        ('"version":1', '"version":2'),
        ("14", "7"),
        ("14", '"many"'),
        ('"full"', '"half"'),
        ("0,", '"then",'),
        ("0,", "Infinity,"),
        (GOOD, 9000 * "["),
        ("null", 9000 * "["),
        ('"radiometry":null', '"radiometry":{"unit":"kelvin"}'),
    ],
)
def test_other_text_is_refused(before: str, after: str) -> None:
    infrared_tag(GOOD)
    with pytest.raises(ValueError, match="FUSEPIPE_INFRARED"):
        infrared_tag(GOOD.replace(before, after, 1))
