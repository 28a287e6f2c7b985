"""What PyAV 18 and 19 name and return differently is the same for what reads inputs."""

from fractions import Fraction
from pathlib import Path

import pytest
from av.rational import AVRational
from helpers.made_clips import write_titled

from fusepipe.pipeline.sources.av_input import exact, open_input


@pytest.mark.parametrize("unset", [None, Fraction(0), AVRational(0, 1), AVRational(1, 0)])
def test_a_rate_that_is_not_known_is_none(unset: Fraction | AVRational | None) -> None:
    assert exact(unset) is None


@pytest.mark.parametrize("rate", [Fraction(30_000, 1001), AVRational(30_000, 1001)])
def test_rates_are_exact(rate: Fraction | AVRational) -> None:
    made = exact(rate)
    assert type(made) is Fraction and made == Fraction(30_000, 1001)


def test_a_title_in_another_encoding_keeps_its_bytes(tmp_path: Path) -> None:
    write_titled(tmp_path / "a.mkv", b"Stra\xdfe")
    with open_input(str(tmp_path / "a.mkv"), options={}) as container:
        assert container.metadata["title"].encode("utf-8", "surrogateescape") == b"Stra\xdfe"
        stream = container.streams.video[0]
        assert exact(stream.average_rate) == 25 and exact(stream.time_base) == Fraction(1, 1000)
