"""``fusepipe probe`` on synthetic cameras whose rates and clocks are known."""

import json
import random

import pytest

from fusepipe.cli import main
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band
from fusepipe.pipeline.testing import frame
from fusepipe.workflows.probe import CameraRecording, pair_lines, pair_report

MS = 1_000_000


def call(*args):
    with pytest.raises(SystemExit) as caught:
        main(["probe", *args])
    return caught.value.code


CAMERA = "synthetic://street?pace=real&size=80x60&duration=60s"


def test_probe_of_a_pair(capsys):
    assert call(f"{CAMERA}&band=infrared&fps=9", f"{CAMERA}&band=visible", "--duration", "3s", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    infrared, visible = document["cameras"]
    assert (infrared["size"], infrared["colour"], visible["colour"]) == ("80x60", False, True)
    assert infrared["fps"] == pytest.approx(9, rel=0.1) and visible["fps"] == pytest.approx(25, rel=0.1)
    assert document["pair"]["tolerance_ms"] >= 55, "half the slower camera's interval at least"
    assert document["pair"]["max_wait_ms"] >= 111, "the next infrared frame may come a whole interval later"
    assert infrared["clock"]["grade"] == "media" and infrared["clock"]["skew_ppm"] is None


def test_probe_refuses_what_it_cannot_measure(capsys):
    assert call("synthetic://street?band=visible") == UsageError.exit_code
    assert "is for live cameras" in capsys.readouterr().err
    assert call("a", "b", "c") == UsageError.exit_code
    assert call("rtps://ann:hunter2@cam/x") == UsageError.exit_code
    err = capsys.readouterr().err
    assert "did you mean 'rtsps'" in err and "hunter2" not in err
    assert call("rtsp://ann:hunter2@127.0.0.1:1/x", "--duration", "1s") == 3
    err = capsys.readouterr().err
    assert "connection refused" in err and "hunter2" not in err and "the run waits" not in err


@pytest.mark.parametrize(("skew_ppm", "slips"), [(400.0, True), (3.0, False)])
def test_a_slip_is_named_only_where_the_clocks_differ_by_more_than_is_uncertain(skew_ppm, slips):
    """Two cameras of 25 frames a second for a minute, the infrared one's clock by so much faster."""
    seen = []
    for band, ppm in ((Band.INFRARED, skew_ppm), (Band.VISIBLE, 0.0)):
        one, rng = CameraRecording(band, None), random.Random(1)
        for index in range(1500):
            true_ns = index * 40 * MS
            media_ns = round(true_ns * (1 + ppm * 1e-6)) + round(rng.gauss(0, MS))
            arrival_ns = true_ns + 5 * MS + round(rng.expovariate(1 / (2 * MS)))
            one.frames.append(one.clock.stamp(frame(band, index, media_ns, arrival_ns=arrival_ns)))
        seen.append(one)
    pair = pair_report(*seen)
    assert abs(pair.relative_skew_ppm - skew_ppm) <= pair.relative_skew_error_ppm
    assert (pair.slip_s is not None) == slips
    assert ("one frame of slip every 1" in "".join(pair_lines(pair))) == slips
    assert (
        f"set sync: {{tolerance: {pair.tolerance_ms:.0f}ms, max_wait: {pair.max_wait_ms:.0f}ms}}" in pair_lines(pair)[1]
    )
