"""Pairing of live cameras in simulation: truth, outages, and the replay of a recorded arrival log."""

import random
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from helpers.arrival_log import replay
from helpers.simulated_cameras import IR, START, VIS, S, camera, gap_s, live, make, states

from fusepipe.core.frames import PairState, Stamp
from fusepipe.pipeline.testing import MS, frame


@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_the_true_nearest_and_skew_is_true(seed):
    """Two free-running cameras at +-400 ppm with jitter, bursts and unequal clocks, over a minute.

    Where two candidates differ by less than twice the clock's error either is right; ``pytest -rP`` shows their share.
    """
    rng = random.Random(seed)
    infrared = list(camera(IR, seed, ppm=400, fps=25 * (1 + 150e-6), phase_ns=rng.randrange(40 * MS), offset_ns=7 * S))
    visible = list(camera(VIS, seed, ppm=-400, phase_ns=rng.randrange(40 * MS), offset_ns=-3 * S))
    pairs, _, truth = live(make(), infrared, visible)
    times = sorted(true for true, _ in infrared)
    right = either = 0
    errors = []
    fused = [p for p in pairs if p.state is PairState.FUSED]
    for pair in fused:
        visible_ns = truth[VIS, pair.visible.index]
        chosen_ns = truth[IR, pair.infrared.index]
        first, second = sorted(times, key=lambda t: abs(t - visible_ns))[:2]
        close = abs(abs(first - visible_ns) - abs(second - visible_ns)) < 2 * 4 * MS
        either += close
        right += chosen_ns == first or (close and chosen_ns == second)
        errors.append(abs(pair.skew_ns - (chosen_ns - visible_ns)) / MS)
    errors.sort()
    median, p99 = errors[len(errors) // 2], errors[int(len(errors) * 0.99)]
    sys.stdout.write(
        f"{seed = }: {right / len(fused):.2%} of {len(fused)} pairs true, {either / len(fused):.2%} where either is; "
        f"error of the skew: median {median:.2f} ms, p99 {p99:.2f} ms\n"
    )
    assert len(fused) > 0.9 * 1500
    assert right >= 0.99 * len(fused)
    assert median < 2 and p99 < 10


def test_a_pair_is_given_as_soon_as_no_better_match_can_come():
    infrared = camera(IR, 1, phase_ns=5 * MS, jitter_ns=0, seconds=20)
    pairs, at, _ = live(make(), infrared, camera(VIS, 1, jitter_ns=0, seconds=20))
    waits = sorted(
        (now - max(p.infrared.arrival_ns, p.visible.arrival_ns)) / MS for p, now in zip(pairs, at, strict=True)
    )
    assert waits[int(0.95 * len(waits))] == 0, (
        "the infrared frame that is later than the visible one decides immediately"
    )


@pytest.mark.parametrize("seed", range(6))
def test_replaying_the_arrival_log_gives_the_same_pairs(seed):
    rng = random.Random(seed)
    away = [(t, t + rng.uniform(0.1, 4)) for t in (3, 9, 14)]
    streams = [
        list(camera(IR, seed, ppm=rng.uniform(-400, 400), seconds=20, away=away[:2])),
        list(camera(VIS, seed, ppm=rng.uniform(-400, 400), seconds=20, away=away[1:])),
    ]
    log = []
    pairs, _, _ = live(make(), *streams, log=log)
    again = list(replay(log, make()))
    assert [key(p) for p in again] == [key(p) for p in pairs] and len(pairs) > 300


def key(pair):
    def name(f):
        return None if f is None else (f.index, f.capture_ns)

    return pair.index, pair.state, pair.skew_ns, name(pair.infrared), name(pair.visible)


def outage(away_infrared=(), away_visible=(), seconds=20, **options):
    pairs, at, _ = live(
        make(**options),
        camera(IR, 5, seconds=seconds, phase_ns=4 * MS, away=away_infrared),
        camera(VIS, 5, seconds=seconds, away=away_visible),
    )
    for before, after in pairwise(pairs):
        assert before.lead.capture_ns < after.lead.capture_ns, "times never go back"
    return pairs, at


def test_the_infrared_camera_goes_and_comes_back():
    pairs, at = outage(away_infrared=[(6, 12)])
    assert states(pairs, at, 1, 6) == {"fused"}
    assert states(pairs, at, 6.2, 6.9) == {"held"} and states(pairs, at, 7.5, 12) == {"single"}
    assert states(pairs, at, 12.5, 20) == {"fused"}
    assert gap_s(at) < 0.2


def test_the_reference_goes_and_the_infrared_camera_leads():
    pairs, at = outage(away_visible=[(6, 12)])
    assert states(pairs, at, 6.5, 12) == {"single"} and states(pairs, at, 12.5, 20) == {"fused"}
    assert {p.lead.band for p, now in zip(pairs, at, strict=True) if START + 7 * S < now < START + 11 * S} == {IR}
    assert gap_s(at) < 0.4


def stalled(shots, from_s, to_s, step_ns):
    """Frames of the span arrive after it, ``step_ns`` apart, and what follows as soon as these are through."""
    last_ns = 0
    for true_ns, shot in shots:
        since_s = (true_ns - START) / S
        arrival_ns = START + to_s * S if from_s <= since_s < to_s else shot.arrival_ns
        last_ns = max(last_ns + step_ns, arrival_ns) if since_s >= from_s else arrival_ns
        yield true_ns, replace(shot, arrival_ns=last_ns)


def test_a_reference_with_a_backlog_leads_again_once_it_has_caught_up():
    """It was silent for three seconds, of which 75 frames come at 100 a second: their time is over."""
    visible = stalled(camera(VIS, 5, seconds=20), 6, 9, 10 * MS)
    pairs, at, _ = live(make(), camera(IR, 5, seconds=20, phase_ns=4 * MS), visible)
    assert states(pairs, at, 6.6, 9.7) == {"single"} and states(pairs, at, 10.5, 20) == {"fused"}
    assert gap_s(at) < 0.4, "the infrared camera continues in the meantime"
    assert all(a.lead.capture_ns < b.lead.capture_ns for a, b in pairwise(pairs))


def test_a_reference_that_never_catches_up_leads_as_it_is():
    """Its frames come a second late from then on, and other ones there are none."""
    visible = stalled(camera(VIS, 5, seconds=20), 6, 7, 40 * MS)
    pairs, at, _ = live(make(), camera(IR, 5, seconds=20, phase_ns=4 * MS), visible)
    assert states(pairs, at, 7.5, 8.5) == {"single"} and states(pairs, at, 12, 20) == {"fused"}
    assert gap_s(at) < 1.5


def test_frames_output_alone_are_not_counted_as_unused():
    pairer = make()
    live(pairer, camera(IR, 5, seconds=20, phase_ns=4 * MS), camera(VIS, 5, seconds=20, away=[(6, 12)]))
    assert pairer.log.skipped["unused infrared frame"] <= 10, "those around the change"


def test_frames_that_were_only_late_are_not_lost_to_a_slate():
    """Both streams stall for half a second, as on a bad network; then the frames in flight arrive."""
    streams = [stalled(camera(band, 5, seconds=20), 6, 6.5, MS) for band in (IR, VIS)]
    pairer = make()
    pairs, at, _ = live(pairer, *streams)
    assert "no signal" in states(pairs, at, 6, 6.6)
    assert pairer.log.skipped["late pair"] <= 5, "those during the two slates"


def test_a_slate_is_output_while_both_cameras_are_silent():
    pairs, at = outage(away_infrared=[(6, 12)], away_visible=[(6, 12)])
    assert states(pairs, at, 6.6, 12) == {"no signal"} and states(pairs, at, 12.5, 20) == {"fused"}
    cards = [p for p in pairs if p.state is PairState.NO_SIGNAL]
    assert 50 <= len(cards) <= 62 and gap_s(at) < 0.5
    assert all(c.infrared is None and c.visible.luma.pixels.shape == (8, 12) for c in cards)


def test_no_camera_from_the_start():
    pairer = make()
    pairs = []
    for step in range(200):
        pairs += pairer.expire(START + step * 50 * MS)
    assert {p.state for p in pairs} == {PairState.NO_SIGNAL} and len(pairs) == 80
    assert pairs[0].visible.luma.pixels.shape == (48, 64) and len(pairs[0].visible.planes) == 3
    assert str(pairer.degradation.state) == "no signal"


@pytest.mark.parametrize("both", [False, True])
def test_the_time_of_a_camera_is_absolute_only_beside_another_such(both):
    """Visible frames take 80 ms, infrared ones 4 ms: known with both wall clocks; one alone may not count."""

    def with_reports(shots, delay_ns, with_clock):
        for true_ns, shot in shots:
            stamp = Stamp("media", 0, true_ns if with_clock else None)
            yield true_ns, replace(shot, stamp=stamp, arrival_ns=shot.arrival_ns + delay_ns)

    pairer = make()
    streams = with_reports(camera(IR, 1, seconds=10), 0, both), with_reports(camera(VIS, 1, seconds=10), 76 * MS, True)
    pairs, _, truth = live(pairer, *streams)
    grades = {str(band): clock.report().grade for band, clock in pairer.clocks.items()}
    assert grades == dict.fromkeys(("infrared", "visible"), "sender" if both else "media")
    last = [p for p in pairs if p.state is PairState.FUSED][-1]
    apart_ns = truth[IR, last.infrared.index] - truth[VIS, last.visible.index]
    assert abs(last.skew_ns) < 10 * MS
    assert apart_ns == 0 if both else abs(apart_ns - 80 * MS) <= 40 * MS, "media clocks take delays for equal"


def test_the_end_of_the_reference_does_not_part_its_last_frame_from_its_partner():
    pairer, given, last = make(), [], 19
    for n in range(last + 1):
        shot_ns = START + n * 40 * MS
        given += pairer.push(frame(VIS, n, shot_ns + 5 * MS, arrival_ns=shot_ns + 10 * MS))
        if n == last:
            given += pairer.end(VIS)
        given += pairer.push(frame(IR, n, shot_ns, arrival_ns=shot_ns + 20 * MS))
    given += pairer.end(IR)
    assert [pair.state for pair in given] == [PairState.FUSED] * (last + 1)
    assert [(pair.infrared.index, pair.visible.index) for pair in given] == [(n, n) for n in range(last + 1)]
