"""Durations and lengths with units, and redaction of secrets."""

import math
from typing import Any

import pytest

from fusepipe.core.redact import redact
from fusepipe.core.units import format_duration, parse_duration_ns, parse_length_m, parse_temperature_k


@pytest.mark.parametrize(
    ("written", "ns"),
    [
        ("20ms", 20_000_000),
        ("40 ms", 40_000_000),
        (" 40ms ", 40_000_000),
        ("1.5s", 1_500_000_000),
        ("10min", 600_000_000_000),
        ("2h", 7_200_000_000_000),
        ("250us", 250_000),
        ("250µs", 250_000),
        ("-15ms", -15_000_000),
        ("+3s", 3_000_000_000),
        ("33.3333333333ms", 33_333_333),
        ("0.1ms", 100_000),
        ("0", 0),
        (0, 0),
        (0.0, 0),
        ("0s", 0),
    ],
)
def test_durations(written: Any, ns: int) -> None:
    assert parse_duration_ns(written) == ns


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (20, "needs a unit: say 20ms or 20s"),
        (0.5, "needs a unit"),
        ("20", "needs a unit"),
        (math.nan, "needs a unit"),
        (math.inf, "needs a unit"),
        ("10m", "minutes are min"),
        ("3 days", "one of the units us, ms, s, min, h, d"),
        ("20MS", "one of the units"),
        ("ms", "should be a time"),
        ("1e3ms", "should be a time"),
        ("1.ms", "should be a time"),
        ("٢٠ms", "should be a time"),
        ("", "should be a time"),
        (True, "should be a time"),
        (None, "should be a time"),
        (["20ms"], "should be a time"),
        ("0.0001us", "shorter than a nanosecond"),
        ("99999999999999999999h", "longer than a hundred years"),
        ("9" * 400 + "s", "should be a time"),
    ],
)
def test_invalid_durations(written: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_duration_ns(written)


@pytest.mark.parametrize(
    ("written", "metres"), [("30m", 30.0), ("500mm", 0.5), ("0.5km", 500.0), ("12 cm", 0.12), (0, 0.0)]
)
def test_lengths(written: Any, metres: float) -> None:
    assert parse_length_m(written) == metres


@pytest.mark.parametrize(
    ("written", "expected"), [(30, "30m or 30cm"), ("30ft", "mm, cm, m, km"), ("9999999km", "thousand")]
)
def test_invalid_lengths(written: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_length_m(written)


@pytest.mark.parametrize("text", ["0", "20ms", "1s", "90s", "10min", "2h", "-15ms", "1500ms", "250us"])
def test_a_duration_survives_formatting(text: str) -> None:
    ns = parse_duration_ns(text)
    assert parse_duration_ns(format_duration(ns)) == ns


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:hunter2@10.0.0.8/ir", "rtsp://***@10.0.0.8/ir"),
        ("rtsp://hunter2@10.0.0.8:554/ir", "rtsp://***@10.0.0.8:554/ir"),
        ("rtsp://user:hun@ter2/x?y#z@host/ir", "rtsp://***@host/ir"),
        ("rtsp://user:hun/ter2@host/ir", "rtsp://***@host/ir"),
        ("rtsp://user:@host/ir", "rtsp://***@host/ir"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("http://[::1]:8080/a@b", "http://[::1]:8080/a@b"),
        ("http://host/x?token=hunter2&size=2", "http://host/x?token=***&size=2"),
        (
            "https://a.blob.core.windows.net/c/x?sp=r&sig=hunter2%3D&sv=1",
            "https://a.blob.core.windows.net/c/x?sp=r&sig=***&sv=1",
        ),
        ("https://host/x?jwt=hunter2&design=2", "https://host/x?jwt=***&design=2"),
        ("http://host/x?api_key=hunter2#f", "http://host/x?api_key=***#f"),
        ("rtsp://host:554/user=admin&password=hunter2&channel=1", "rtsp://host:554/user=admin&password=***&channel=1"),
        ("cannot open RTSPS://u:hunter2@h/x: refused", "cannot open RTSPS://***@h/x: refused"),
        ("http://host/x?password=hunter;seven&size=2", "http://host/x?password=***&size=2"),
        ("http://host/x?password=hunter&seven", "http://host/x?password=***"),
        ("http://host/x?loginuse=a&loginpas=hunter2", "http://host/x?loginuse=a&loginpas=***"),
        ("http://host/x?pw=hunter2&psw=hunter2&usr_pwd=hunter2", "http://host/x?pw=***&psw=***&usr_pwd=***"),
        ("to rtsp://127.0.0.1:18777, rtsp://***@h/x", "to rtsp://127.0.0.1:18777, rtsp://***@h/x"),
        ("synthetic://street?band=infrared", "synthetic://street?band=infrared"),
        ("/data/a@b/clip.mkv", "/data/a@b/clip.mkv"),
    ],
)
def test_secrets_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    ("text", "kelvin"), [("60C", 333.15), ("-40 °C", 233.15), ("333.15K", 333.15), ("140F", 333.15), ("0K", None)]
)
def test_temperatures_have_a_unit(text: str, kelvin: float | None) -> None:
    if kelvin is None:
        with pytest.raises(ValueError, match="should be above 0K"):
            parse_temperature_k(text)
    else:
        assert parse_temperature_k(text) == pytest.approx(kelvin)
    for wrong in (60, "60", "60X", True, None, "hot"):
        with pytest.raises(ValueError, match="a temperature with"):
            parse_temperature_k(wrong)
