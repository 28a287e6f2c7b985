"""When a synthetic camera exposes and what its clock says: statistics against the truth, and seeking."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from fusepipe.pipeline.sources.synthetic.options import parse_options
from fusepipe.pipeline.sources.synthetic.timeline import BLOCK, Moment, Timeline


def timeline(query: str, band: str = "infrared") -> Timeline:
    return Timeline(parse_options(f"synthetic://street?band={band}&{query}"))


def moments(query: str, band: str = "infrared") -> list[Moment]:
    return list(timeline(query, band).moments())


def test_an_honest_camera_reads_the_truth() -> None:
    frames = moments("fps=29.97&duration=5min")
    assert len(frames) == 8991
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert all(frame.true_ns == frame.reading_ns == frame.image_ns for frame in frames)
    assert frames[-1].true_ns == round(8990 * 1e9 / 29.97)
    assert not any(frame.repeated or frame.frozen for frame in frames)


def test_skew_offset_and_phase_are_exact() -> None:
    frames = moments("fps=10&duration=1000s&skew_ppm=80&offset=-20ms&phase=13ms")
    for frame in frames[::997]:
        assert frame.true_ns == frame.index * 100_000_000 + 13_000_000
        assert frame.reading_ns == frame.true_ns + round(frame.true_ns * 80e-6) - 20_000_000
    assert frames[-1].reading_ns - frames[-1].true_ns == pytest.approx(80e-6 * 1000e9 - 20e6, abs=1e5)


def test_jitter_has_the_stated_spread_and_keeps_the_order() -> None:
    frames = moments("fps=25&duration=20min&jitter=4ms")
    error = np.array([frame.reading_ns - frame.true_ns for frame in frames])
    assert abs(error.mean()) < 1e5
    assert error.std() == pytest.approx(4e6, rel=0.03)
    frames = moments("fps=25&duration=20min&jitter=10ms")
    assert (np.diff([frame.reading_ns for frame in frames]) > 0).all()


def test_drops_have_the_given_rate_and_leave_no_gap_in_the_index() -> None:
    frames = moments("fps=25&duration=20min&drop=0.2")
    assert len(frames) == pytest.approx(0.8 * 30_000, rel=0.02)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert frames[0].tick == 0
    assert all(frame.true_ns == frame.tick * 40_000_000 for frame in frames)


def test_a_repeat_shows_the_previous_delivered_image_at_a_new_time() -> None:
    frames = moments("fps=25&duration=20min&repeat=0.3&drop=0.3")
    repeated = [frame for frame in frames if frame.repeated]
    assert len(repeated) == pytest.approx(0.3 * len(frames), rel=0.05)
    for before, frame in pairwise(frames):
        assert frame.true_ns > before.true_ns
        assert frame.image_tick == (before.image_tick if frame.repeated else frame.tick)


@pytest.mark.parametrize("query", ["drop=1", "repeat=1"])
def test_the_first_frame_always_comes(query: str) -> None:
    frames = moments(f"{query}&duration=200s")
    assert frames[0].tick == 0 and not frames[0].repeated
    assert all(frame.image_tick == 0 for frame in frames)


def test_a_flat_field_correction_freezes_the_image_and_not_the_time() -> None:
    frames = moments("fps=25&duration=16s&ffc=5s,400ms")
    frozen = [frame.index for frame in frames if frame.frozen]
    assert frozen == [*range(125, 135), *range(250, 260), *range(375, 385)]
    assert {frames[i].image_tick for i in range(250, 260)} == {249}
    assert frames[255].reading_ns == 255 * 40_000_000


@pytest.mark.parametrize("query", ["", "drop=0.4", "drop=0.99&repeat=0.5", "repeat=1&ffc=3s,1s&jitter=2ms"])
def test_any_frame_can_be_asked_for_without_the_others(query: str) -> None:
    query = f"fps=25&duration=400s&{query}"
    frames = moments(query)
    picks = sorted({0, len(frames) // 3, len(frames) // 2, len(frames) - 1}, reverse=True)
    for index in picks:
        assert timeline(query).moment(index) == frames[index]
    again = timeline(query)
    assert [again.moment(index) for index in picks] == [frames[index] for index in picks]
    for wrong in (-1, len(frames)):
        with pytest.raises(IndexError):
            again.moment(wrong)


def test_seed_and_band_change_the_draws_and_nothing_else_does() -> None:
    query = f"fps=25&duration=90s&jitter=2ms&drop=0.1&seed=3&noise={2}"
    assert BLOCK < 90 * 25
    assert moments(query) == moments(query + "&size=64x48")
    readings = [[m.reading_ns for m in moments(q, b)] for q, b in ((query, "infrared"), (query, "visible"))]
    readings.append([m.reading_ns for m in moments(query.replace("seed=3", "seed=4"))])
    assert len({tuple(r) for r in readings}) == 3
