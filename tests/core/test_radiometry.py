"""Counts to temperatures and back: linear units, and Planck's law as in FLIR's files."""

from __future__ import annotations

import numpy as np
import pytest

from fusepipe.core.radiometry import PlanckConstants, Radiometry, radiometry_of_json

# of a FLIR E8, as its metadata state them, with the example that the R package Thermimage documents (raw2temp)
PLANCK = PlanckConstants(r1=21106.77, b=1501.0, f=1.0, o=-7340.0, r2=0.012545258)
RADIOMETRIC = Radiometry("kelvin", planck=PLANCK)


@pytest.mark.parametrize(
    ("radiometry", "count", "kelvin"),
    [
        (Radiometry("kelvin", 0.01), 30015, 300.15),
        (Radiometry("celsius", 0.04, -273.15), 7500, 300.0),
        (Radiometry("celsius", 0.1, -20), 470, 300.15),
        (Radiometry("kelvin", 1 / 64), 19210, 300.15625),
    ],
)
def test_linear_counts(radiometry: Radiometry, count: int, kelvin: float) -> None:
    assert radiometry.kelvin(count) == pytest.approx(kelvin, abs=1e-9)
    assert radiometry.celsius(count) == pytest.approx(kelvin - 273.15, abs=1e-9)
    assert radiometry.counts(kelvin) == pytest.approx(count, abs=1e-6)


def test_plancks_law_of_a_black_body() -> None:
    # T = 1501 / ln(21106.77 / (.012545258 (17998 - 7340)) + 1) by hand: ln(158.8577) = 5.06801
    assert RADIOMETRIC.kelvin(17998) == pytest.approx(296.171, abs=0.01)


@pytest.mark.parametrize(
    "radiometry", [RADIOMETRIC, Radiometry("kelvin", 1.1, -320.0, PLANCK), Radiometry("celsius", 0.01)]
)
def test_there_and_back_within_a_thousandth_of_a_kelvin(radiometry: Radiometry) -> None:
    kelvin = np.linspace(240, 1000, 77).reshape(7, 11)
    back = radiometry.kelvin(radiometry.counts(kelvin))
    assert back.shape == (7, 11) and back.dtype == np.float64
    assert np.abs(back - kelvin).max() < 1e-3


def test_counts_increase_with_temperature() -> None:
    assert (np.diff(RADIOMETRIC.counts(np.arange(200, 1200))) > 0).all()


def test_a_count_below_absolute_zero_has_no_temperature() -> None:
    assert np.isnan(RADIOMETRIC.kelvin(np.array([0, 7000]))).all()  # S + O < 0
    assert np.isfinite(RADIOMETRIC.kelvin(np.array([8000, 65535], np.uint16))).all()


def test_counts_without_a_unit_have_no_temperature() -> None:
    assert not Radiometry().thermal and Radiometry("celsius").thermal
    with pytest.raises(ValueError, match="no temperature"):
        Radiometry().kelvin(3)
    with pytest.raises(ValueError, match="no temperature"):
        Radiometry().counts(300.0)


@pytest.mark.parametrize("radiometry", [Radiometry(), Radiometry("celsius", 0.01, -273.15), RADIOMETRIC])
def test_metadata_keep_every_digit(radiometry: Radiometry) -> None:
    assert radiometry_of_json(radiometry.to_json()) == radiometry


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"unit":"counts"}',
        '{"unit":"fahrenheit","gain":1,"offset":0,"planck":null}',
        '{"unit":"kelvin","gain":0,"offset":0,"planck":null}',
        '{"unit":"kelvin","gain":1,"offset":0,"planck":7}',
        '{"unit":"kelvin","gain":1,"offset":0,"planck":{"r1":1}}',
        '{"unit":"kelvin","gain":"much","offset":0,"planck":null}',
    ],
)
def test_other_metadata_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a radiometry"):
        radiometry_of_json(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gain": 0.0}, "gain"),
        ({"gain": -1.0}, "gain"),
        ({"offset": float("nan")}, "offset"),
        ({"unit": "celsius", "planck": PLANCK}, "kelvin"),
    ],
)
def test_impossible_values_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Radiometry(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="r1"):
        PlanckConstants(0, 1501, 1, 0, 0.01)
