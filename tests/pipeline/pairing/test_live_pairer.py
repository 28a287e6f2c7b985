"""Pairing of live cameras in simulation: truth, outages, and the replay of a recorded arrival log."""

import random
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers.arrival_log import ArrivalLog, replay

from fusepipe.core.frames import Band, Disconnected, Frame, PairState, Plane, Stamp
from fusepipe.pipeline.pairing.auto_sync import AutoSync
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.live_pairer import LivePairer
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.testing import MS, frame

IR, VIS = Band.INFRARED, Band.VISIBLE
S = 1000 * MS
START = 50 * S


def make(max_wait_ns=60 * MS, detect_freezes=(IR, VIS), **options):
    return LivePairer(
        TimePairer(VIS, tolerance_ns=20 * MS, max_wait_ns=max_wait_ns, **options),
        {IR: CaptureClock(), VIS: CaptureClock()},
        reference=VIS,
        size=(64, 48),
        start_ns=START,
        detect_freezes=detect_freezes,
    )


def camera(band, seed, *, ppm=0.0, fps=25.0, phase_ns=0, seconds=60, offset_ns=0, jitter_ns=MS, away=()):
    """Frames of a camera in order of arrival; ``away`` are (from, to) seconds in which nothing arrives."""
    rng = random.Random(f"{seed} {band}")
    last = 0
    for index in range(round(seconds * fps)):
        true_ns = START + phase_ns + round(index * S / fps)
        media_ns = round((true_ns - START) * (1 + ppm * 1e-6)) + offset_ns + round(rng.gauss(0, jitter_ns))
        burst_ns = 30 * MS if index % 25 == 0 else 0
        last = max(last + 1000, true_ns + 4 * MS + round(rng.expovariate(1 / (2 * MS))) + burst_ns)
        if not any(a <= (true_ns - START) / S < b for a, b in away):
            yield true_ns, frame(band, index, media_ns, arrival_ns=last)


def live(pairer, *streams, log=None):
    """Feeds streams as they arrive, with the waits that the graph makes; (pairs, truth by band and index)."""
    pairer = pairer if log is None else ArrivalLog(pairer, log.append)
    items = sorted((item for stream in streams for item in stream), key=lambda item: item[1].arrival_ns)
    truth = {(item.band, item.index): true_ns for true_ns, item in items if isinstance(item, Frame)}
    pairs, at = [], []
    for _, item in items:
        while (due_ns := pairer.deadline_ns()) is not None and due_ns < item.arrival_ns:
            made = pairer.expire(due_ns)
            pairs += made
            at += [due_ns] * len(made)
        made = pairer.push(item)
        pairs += made
        at += [item.arrival_ns] * len(made)
    return pairs, at, truth


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


def states(pairs, at, from_s, to_s):
    return {str(p.state) for p, now in zip(pairs, at, strict=True) if START + from_s * S <= now < START + to_s * S}


def gap_s(at):
    return max(b - a for a, b in pairwise(at)) / S


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
    """Both streams stand for half a second, as on a bad network, and what was under way arrives then."""
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

    def told(shots, delay_ns, with_clock):
        for true_ns, shot in shots:
            stamp = Stamp("media", 0, true_ns if with_clock else None)
            yield true_ns, replace(shot, stamp=stamp, arrival_ns=shot.arrival_ns + delay_ns)

    pairer = make()
    streams = told(camera(IR, 1, seconds=10), 0, both), told(camera(VIS, 1, seconds=10), 76 * MS, True)
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


def refused(band, *seconds):
    """The failures of a camera that is not connected, by when they were noticed."""
    for second in seconds:
        at_ns = START + round(second * S)
        yield at_ns, Disconnected(band, "connection refused", at_ns)


def waits_ms(pairs, at, from_s, to_s):
    """How long the pairs of a span waited after the arrival of their leading frame."""
    spans = [(now, p.lead.arrival_ns) for p, now in zip(pairs, at, strict=True)]
    return [(now - arrived) / MS for now, arrived in spans if START + from_s * S <= now < START + to_s * S]


def test_no_frame_waits_for_a_camera_that_is_not_connected():
    infrared = camera(IR, 5, seconds=20, phase_ns=4 * MS, away=[(6, 12)])
    streams = infrared, camera(VIS, 5, seconds=20), refused(IR, 6.1, 8, 11)
    pairs, at, _ = live(make(max_wait_ns=500 * MS), *streams)
    assert max(waits_ms(pairs, at, 6.7, 12)) == 0, "every frame waited 500 ms"
    assert states(pairs, at, 12.1, 20) == {"fused"}, "pairing resumes with the first frame of the camera"
    assert max(waits_ms(pairs, at, 13, 20)) > 0, "and so does waiting for the nearest frame"


def test_the_other_camera_leads_as_soon_as_the_reference_is_known_to_be_disconnected():
    visible = camera(VIS, 5, seconds=20, away=[(6, 12)])
    pairs, at, _ = live(make(max_wait_ns=500 * MS), camera(IR, 5, seconds=20), visible, refused(VIS, 6.1, 8, 11))
    assert states(pairs, at, 6.2, 12) == {"single"} and states(pairs, at, 12.6, 20) == {"fused"}
    assert gap_s(at) < 0.2, "without the failure it would take two max_wait"


def test_both_cameras_are_disconnected():
    streams = [camera(band, 5, seconds=20, away=[(6, 12)]) for band in (IR, VIS)]
    pairs, at, _ = live(make(), *streams, refused(IR, 6.1), refused(VIS, 6.2))
    assert states(pairs, at, 6.6, 12) == {"no signal"} and states(pairs, at, 12.5, 20) == {"fused"}


STILL = np.random.default_rng(3).integers(0, 255, (8, 12), np.uint8)


def freezing(shots, from_s, to_s, *, pixels=STILL, key_every=1):
    """From its first frame of the span on, a camera repeats an image; every ``key_every``-th frame is a key frame."""
    for true_ns, shot in shots:
        shown = replace(shot, stamp=Stamp(key_frame=shot.index % key_every == 0))
        if START + from_s * S <= true_ns < START + to_s * S:
            shown = replace(shown, planes=(Plane(pixels),))
        yield true_ns, shown


def frozen(infrared=None, visible=None, seconds=25, max_hold_ns=2500 * MS, **options):
    """Pairs of two cameras that freeze in these spans of seconds."""
    streams = [
        shots if span is None else freezing(shots, *span, **options)
        for shots, span in (
            (camera(IR, 5, seconds=seconds, phase_ns=4 * MS), infrared),
            (camera(VIS, 5, seconds=seconds), visible),
        )
    ]
    return live(make(max_hold_ns=max_hold_ns), *streams)


@pytest.mark.parametrize("pixels", [STILL, np.zeros((8, 12), np.uint8)], ids=["one image", "black"])
def test_a_frozen_infrared_camera_is_held_and_then_left_out(pixels):
    pairs, at, truth = frozen(infrared=(6, 19), pixels=pixels)
    assert states(pairs, at, 6.3, 8.4) == {"held"}, "a flat-field correction takes up to two seconds"
    assert states(pairs, at, 8.7, 19) == {"single"} and states(pairs, at, 19.3, 25) == {"fused"}
    assert gap_s(at) < 0.2
    held = [p for p, now in zip(pairs, at, strict=True) if START + 6.3 * S < now < START + 8.4 * S]
    first = next(index for (band, index), true_ns in truth.items() if band is IR and true_ns >= START + 6 * S)
    assert {p.infrared.exposed.index for p in held} == {first}, "the frame that was truly captured"
    for pair in held:
        true_skew_ns = truth[IR, first] - truth[VIS, pair.visible.index]
        assert abs(pair.skew_ns - true_skew_ns) < 10 * MS


def test_no_frame_waits_for_a_camera_that_counts_as_frozen():
    pairs, at, _ = frozen(infrared=(6, 19))
    assert max(waits_ms(pairs, at, 9, 19)) == 0


def test_a_frozen_visible_camera_is_replaced_by_the_infrared_one():
    pairs, at, _ = frozen(visible=(6, 19))
    assert states(pairs, at, 6.3, 8.4) == {"held"}
    assert states(pairs, at, 9, 19) == {"single"} and states(pairs, at, 19.6, 25) == {"fused"}
    assert {p.lead.band for p, now in zip(pairs, at, strict=True) if START + 9 * S < now < START + 19 * S} == {IR}
    assert gap_s(at) < 0.4


def test_both_cameras_freeze():
    pairs, at, _ = frozen(infrared=(6, 19), visible=(7, 19))
    assert states(pairs, at, 10.2, 19) == {"no signal"} and states(pairs, at, 19.6, 25) == {"fused"}
    assert all(a.lead.capture_ns < b.lead.capture_ns for a, b in pairwise(pairs))


def test_a_motionless_scene_is_not_left_out():
    """Its key frames have new noise every two seconds, and the frames in between repeat them."""

    def still_scene():
        for true_ns, shot in camera(IR, 5, seconds=20, phase_ns=4 * MS):
            pixels = np.random.default_rng(shot.index // 50).integers(0, 255, (8, 12), np.uint8)
            stamp = Stamp(key_frame=shot.index % 50 == 0)
            yield true_ns, replace(shot, planes=(Plane(pixels),), stamp=stamp)

    pairs, at, _ = live(make(max_hold_ns=500 * MS), still_scene(), camera(VIS, 5, seconds=20))
    assert states(pairs, at, 1, 20) == {"fused", "held"}


def test_freezes_are_not_detected_where_that_is_off():
    streams = freezing(camera(IR, 5, seconds=20), 6, 19), camera(VIS, 5, seconds=20)
    pairs, at, _ = live(make(detect_freezes=[VIS]), *streams)
    assert states(pairs, at, 1, 20) == {"fused"}


def slow_infrared(seconds=20):
    """9 Hz beside 30 Hz."""
    return camera(IR, 5, fps=9, phase_ns=17 * MS, seconds=seconds), camera(VIS, 5, fps=30, seconds=seconds)


def auto(*, tolerance_ns=20 * MS, max_wait_ns=60 * MS, keys=("tolerance", "max_wait"), rates=(9.0, 30.0)):
    """A pairer that measures the values of ``keys``, and the lists of what it reports."""
    inner = TimePairer(VIS)
    inner.rules = replace(inner.rules, tolerance_ns=tolerance_ns, max_wait_ns=max_wait_ns, auto=frozenset(keys))
    tuned, advice = [], []
    pairer = LivePairer(
        inner,
        {IR: CaptureClock(), VIS: CaptureClock()},
        reference=VIS,
        size=(64, 48),
        start_ns=START,
        sync=AutoSync(VIS, inner.rules, dict(zip((IR, VIS), rates, strict=True))),
        tuned=tuned.append,
        advise=advice.append,
    )
    return pairer, tuned, advice


def held_share(pairs):
    return sum(p.state is PairState.HELD for p in pairs) / len(pairs)


def test_tolerance_and_wait_follow_the_rates_of_the_cameras():
    fixed, _, advice = auto(keys=())
    pairs, _, _ = live(fixed, *slow_infrared())
    assert held_share(pairs) > 0.4, "20 ms and 60 ms"
    (text,) = advice
    assert "% of the pairs are held: sync: {tolerance: 20ms, max_wait: 60ms} is too short" in text
    assert "infrared at 9.0 Hz and visible at 30." in text and "or leave it out" in text

    measuring, tuned, advice = auto(rates=(None, None))
    pairs, at, truth = live(measuring, *slow_infrared())
    later = [p for p, now in zip(pairs, at, strict=True) if now > START + 3 * S]
    assert held_share(later) < 0.01 and advice == []
    assert 56 * MS <= measuring.rules.tolerance_ns <= 70 * MS
    assert 115 * MS <= measuring.rules.max_wait_ns <= 170 * MS
    assert 1 <= len(tuned) <= 4 and "for infrared at 9.0 Hz and visible at " in tuned[-1]
    for pair in later:
        assert abs(truth[IR, pair.infrared.index] - truth[VIS, pair.visible.index]) <= 60 * MS, "the nearest one"


def test_the_rates_that_the_cameras_state_serve_until_there_are_measured_ones():
    pairer, _, _ = auto()
    pairs, *_ = live(pairer, *slow_infrared(seconds=3))
    assert held_share(pairs) < 0.05


@pytest.mark.parametrize("key", ["tolerance", "max_wait"])
def test_a_value_of_the_rig_is_kept_and_doubted_if_it_does_not_serve(key):
    other = {"tolerance": "max_wait", "max_wait": "tolerance"}[key]
    pairer, _, advice = auto(keys=[other])
    live(pairer, *slow_infrared())
    assert getattr(pairer.rules, f"{key}_ns") == {"tolerance": 20 * MS, "max_wait": 60 * MS}[key]
    assert getattr(pairer.rules, f"{other}_ns") > {"tolerance": 60 * MS, "max_wait": 20 * MS}[key]
    assert key == "max_wait" or len(advice) == 1, "a third of the frames wait for longer than 60 ms"


def test_an_outage_is_no_reason_for_advice():
    pairer, _, advice = auto(keys=(), tolerance_ns=10 * MS, max_wait_ns=20 * MS)
    streams = camera(IR, 5, seconds=40, away=[(10, 12), (15, 17)]), camera(VIS, 5, seconds=40), refused(IR, 10.5, 15.5)
    live(pairer, *streams)
    assert advice == [], "the cameras are synchronised: their frames are within 10 ms"


def test_new_rules_of_a_reload_apply_with_the_next_frame():
    pairer, _, _ = auto()
    live(pairer, *slow_infrared(seconds=5))
    pairer.sync.wanted = replace(pairer.sync.wanted, tolerance_ns=7 * MS, auto=frozenset({"max_wait"}))
    live(pairer, [(START + 6 * S, frame(VIS, 1000, 6 * S, arrival_ns=START + 6 * S))])
    assert pairer.rules.tolerance_ns == 7 * MS and pairer.rules.max_wait_ns > 100 * MS


def test_a_frame_that_is_surely_the_nearest_is_not_waited_past():
    """The infrared frame is 6 ms older than the visible one and arrives before it; the next one is 34 ms later."""
    infrared = camera(IR, 1, phase_ns=34 * MS, jitter_ns=0, seconds=20)
    pairs, at, _ = live(make(), infrared, camera(VIS, 1, jitter_ns=0, seconds=20))
    waits = sorted(waits_ms(pairs, at, 5, 20))
    assert waits[len(waits) // 2] == 0
