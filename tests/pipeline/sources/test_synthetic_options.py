"""The options of synthetic:// URLs: their values, and one line of help for every mistake."""

from __future__ import annotations

import re
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import pytest

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.synthetic.options import OPTIONS, FlatField, SyntheticOptions, parse_options

DOCS = Path(__file__).parents[3] / "docs" / "synthetic.md"


def test_all_options_of_a_url() -> None:
    options = parse_options(
        "synthetic://street?band=infrared&light=night&size=161x121&fps=30000/1001&duration=2min&pace=real&seed=7"
        "&parallax=-4.5&skew_ppm=+50&offset=-20ms&phase=13ms&jitter=1ms&drop=0.1&repeat=0.2&noise=1.5"
        "&ffc=5s,400ms&depth=16"
    )
    assert options == SyntheticOptions(
        band=Band.INFRARED,
        light="night",
        size=(161, 121),
        fps=Fraction(30000, 1001),
        duration_ns=120_000_000_000,
        pace="real",
        seed=7,
        parallax=-4.5,
        skew_ppm=50.0,
        offset_ns=-20_000_000,
        phase_ns=13_000_000,
        jitter_ns=1_000_000,
        drop=0.1,
        repeat=0.2,
        noise=1.5,
        ffc=FlatField(5_000_000_000, 400_000_000),
        depth=16,
    )


def test_defaults_depend_on_the_band_only() -> None:
    visible = parse_options("synthetic://street", Band.VISIBLE)
    infrared = parse_options("synthetic://street?band=infrared")
    assert visible.size == (640, 480) and visible.ticks == 250 and visible.depth == 8
    assert infrared.size == (320, 240) and infrared.pace == "fast" and infrared.light == "day"


@pytest.mark.parametrize(
    ("fps", "duration", "ticks"), [("9", "1s", 9), ("29.97", "10s", 300), ("25", "1ms", 1), ("0.1", "10s", 1)]
)
def test_ticks_are_those_that_begin_within_the_duration(fps: str, duration: str, ticks: int) -> None:
    assert parse_options(f"synthetic://street?band=visible&fps={fps}&duration={duration}").ticks == ticks


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("band=thermal", ["band=thermal", "infrared or visible"]),
        ("band=visibel", ["did you mean 'visible'?"]),
        ("szie=64x64", ["'szie'", "did you mean 'size'?"]),
        ("size=640", ["size=640", "640x480"]),
        ("size=15x480", ["size=15x480", "from 16 to 8192"]),
        ("size=8193x16", ["8193x16"]),
        ("size=-640x480", ["-640x480"]),
        ("fps=0", ["fps=0", "0.1 to 1000"]),
        ("fps=fast", ["fps=fast", "29.97"]),
        ("fps=25/0", ["fps=25/0"]),
        ("duration=10", ["duration=10", "10s"]),
        ("duration=0s", ["duration=0s", "above 0"]),
        ("duration=-1s", ["duration=-1s"]),
        ("pace=slow", ["pace=slow", "fast or real"]),
        ("light=dark", ["light=dark", "day or night"]),
        ("seed=-1", ["seed=-1", "integer"]),
        ("seed=1.5", ["seed=1.5"]),
        ("parallax=far", ["parallax=far", "-100 to 100"]),
        ("skew_ppm=nan", ["skew_ppm=nan", "a number from"]),
        ("offset=20", ["offset=20", "-15ms"]),
        ("phase=-1ms", ["phase=-1ms"]),
        ("jitter=-1ms", ["jitter=-1ms"]),
        ("jitter=11ms", ["quarter of the frame interval", "10ms at 25 fps"]),
        ("drop=1.5", ["drop=1.5", "0 to 1"]),
        ("repeat=-0.1", ["repeat=-0.1"]),
        ("noise=65", ["noise=65", "0 to 64"]),
        ("noise=", ["noise= "]),
        ("band=infrared&ffc=5s", ["ffc=5s", "5s,400ms"]),
        ("band=infrared&ffc=1s,1s", ["ffc=1s,1s", "shorter"]),
        ("band=infrared&depth=14", ["depth=14", "8 or 16"]),
        ("band=visible&depth=16", ["depth", "infrared camera only"]),
        ("band=visible&ffc=5s,400ms", ["ffc", "infrared camera only"]),
        ("size=64x64&size=32x32", ["size is given twice"]),
    ],
)
def test_a_wrong_option_is_one_line_that_names_the_value_and_the_fix(query: str, parts: list[str]) -> None:
    url = f"synthetic://street?{query}" + ("" if "band=" in query else "&band=visible")
    with pytest.raises(UsageError) as caught:
        parse_options(url)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("url", "band", "part"),
    [
        ("synthetic://stret?band=visible", None, "did you mean 'street'?"),
        ("synthetic://street/corner?band=visible", None, "'street/corner'"),
        ("http://street?band=visible", None, "is not a synthetic:// URL"),
        ("synthetic://street", None, "add band=infrared or band=visible"),
        ("synthetic://street?band=visible", Band.INFRARED, "is used as the infrared camera: use band=infrared"),
    ],
)
def test_an_invalid_url_is_explained(url: str, band: Band | None, part: str) -> None:
    with pytest.raises(UsageError, match=re.escape(part)):
        parse_options(url, band)


def test_the_page_about_the_source_names_every_option_with_an_example_that_works() -> None:
    text = DOCS.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE))
    assert set(rows) == set(OPTIONS)
    assert {field.name for field in fields(SyntheticOptions)} == {"scene", *(field for field, _ in OPTIONS.values())}
    for name, example in rows.items():
        assert example.startswith(f"{name}=")
        parse_options(f"synthetic://street?{example}" + ("" if name == "band" else "&band=infrared"))
    for url in re.findall(r"synthetic://street\?[^\s\"'`)]+", text):
        parse_options(url, None if "band=" in url else Band.VISIBLE)
