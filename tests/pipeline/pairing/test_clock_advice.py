"""Advice on two clocks that disagree: once for each disagreement."""

from fusepipe.pipeline.pairing.clock_advice import ClockComparison, clock_advice
from fusepipe.pipeline.testing import MS


def said(comparison, *delays_ms):
    """What is said at each pair of delays (ms, ``None`` for unknown ones), as the offset that is proposed."""
    texts = [comparison.advice(*(None if ms is None else ms * MS for ms in pair), 0) for pair in delays_ms]
    return [text.partition("offset: ")[2].rstrip("}") for text in texts]


def test_the_offset_takes_both_cameras_as_equally_fast():
    assert clock_advice(40 * MS, 190 * MS) == ""
    text = clock_advice(40 * MS, 341 * MS)
    assert "infrared frames arrive at least 40 ms" in text and "visible ones 341 ms" in text
    assert text.endswith("sync: {offset: -301ms}")
    assert clock_advice(341 * MS, 40 * MS).endswith("sync: {offset: 301ms}")


def test_an_offset_that_is_set_is_taken_into_account():
    assert clock_advice(40 * MS, 341 * MS, -300 * MS) == "" and clock_advice(40 * MS, 190 * MS, -150 * MS) == ""
    assert clock_advice(40 * MS, 341 * MS, 300 * MS).endswith("sync: {offset: -301ms}")
    assert clock_advice(40 * MS, 40 * MS, -300 * MS).endswith("sync: {offset: 0ms}"), "the clocks have been set since"


def test_a_disagreement_is_said_once():
    assert said(ClockComparison(), (40, None), (40, 340), (40, 345), (40, None), (40, 360)) == [
        "",
        "-300ms",
        "",
        "",
        "",
    ]


def test_a_clock_that_is_set_is_compared_anew():
    known = (40, 60), (40, 340), (40, None), (40, 340), (None, None), (40, 50), (None, 50), (40, 600)
    assert said(ClockComparison(), *known) == ["", "", "", "-300ms", "", "", "", "-560ms"]
