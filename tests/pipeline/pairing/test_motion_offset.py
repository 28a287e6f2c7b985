"""The offset between two cameras from motion energy, and the probe, on scenes whose truth is known."""

import json
import math
import random

import pytest

from fusepipe.cli import main
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band
from fusepipe.pipeline.pairing.motion_offset import estimate_offset
from fusepipe.pipeline.testing import frame
from fusepipe.workflows.probe import _pair, _pair_lines, _Seen

MS = 1_000_000
S = 1000 * MS


def energy(seed, *, offset_ms=0.0, fps=25.0, seconds=30, gain=1.0):
    """Motion that comes and goes, seen by a camera whose clock is ``offset_ms`` ahead, with noise of its own."""
    scene, own = random.Random(seed), random.Random(f"{seed} {offset_ms} {fps}")
    bursts = [(scene.uniform(0, seconds), scene.uniform(0.2, 1.0), scene.uniform(2, 9)) for _ in range(seconds // 2)]
    samples = []
    for index in range(round(seconds * fps)):
        t = index / fps
        moved = sum(height * math.exp(-(((t - at) / width) ** 2)) for at, width, height in bursts)
        samples.append((round((t * 1000 + offset_ms) * MS), gain * (0.5 + moved) + own.gauss(0, 0.1)))
    return samples


@pytest.mark.parametrize(("offset_ms", "fps"), [(0, 25), (-130, 25), (480, 9), (1400, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_the_offset_is_found_within_less_than_a_frame(seed, offset_ms, fps):
    found = estimate_offset(energy(seed, offset_ms=offset_ms, fps=fps, gain=0.3), energy(seed))
    assert found.trusted and abs(found.offset_ns / MS + offset_ms) < 25, found


@pytest.mark.parametrize("seed", range(5))
def test_pictures_of_different_scenes_give_no_offset(seed):
    assert not estimate_offset(energy(seed), energy(seed + 100)).trusted


def test_too_little_gives_none():
    assert estimate_offset([], energy(0)) is None
    assert estimate_offset(energy(0, seconds=4), energy(0, seconds=4)) is None
    still = [(i * 40 * MS, 0.0) for i in range(500)]
    assert not estimate_offset(still, still).trusted


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
        one, rng = _Seen(band, None), random.Random(1)
        for index in range(1500):
            true_ns = index * 40 * MS
            media_ns = round(true_ns * (1 + ppm * 1e-6)) + round(rng.gauss(0, MS))
            arrival_ns = true_ns + 5 * MS + round(rng.expovariate(1 / (2 * MS)))
            one.frames.append(one.clock.stamp(frame(band, index, media_ns, arrival_ns=arrival_ns)))
        seen.append(one)
    pair = _pair(*seen)
    assert abs(pair.relative_skew_ppm - skew_ppm) <= pair.relative_skew_error_ppm
    assert (pair.slip_s is not None) == slips
    assert ("slip by a frame every 1" in "".join(_pair_lines(pair))) == slips
