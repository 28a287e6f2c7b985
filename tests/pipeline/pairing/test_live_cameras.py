"""Live cameras that are away, frozen, or of unequal frame rates, in simulation."""

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers.simulated_cameras import IR, START, VIS, S, camera, gap_s, live, make, refused, states, waits_ms

from fusepipe.core.frames import PairState, Plane, Stamp
from fusepipe.pipeline.pairing.auto_sync import AutoSync
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.live_pairer import LivePairer
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.testing import MS, frame


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


def reporting(shots, behind_ns):
    """A camera whose packets carry its own wall clock, which is behind by so much."""
    for true_ns, shot in shots:
        yield true_ns, replace(shot, stamp=Stamp(sender_ns=true_ns - behind_ns))


@pytest.mark.parametrize(("behind_ms", "offset"), [(0, ""), (100, ""), (300, "{offset: -30"), (-10, "")])
def test_clocks_that_differ_by_more_than_cameras_do_are_reported_once(behind_ms, offset):
    pairer, _, advice = auto(keys=(), rates=(25.0, 25.0))
    live(pairer, reporting(camera(IR, 5, seconds=30), 0), reporting(camera(VIS, 5, seconds=30), behind_ms * MS))
    assert len(advice) == bool(offset)
    assert all("visible ones 30" in text and f"correct it by sync: {offset}" in text for text in advice)


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


def on_a_busy_machine(stream):
    """Every other three seconds, frames are noticed up to 300 ms late."""
    last_ns = 0
    for true_ns, item in stream:
        since = (true_ns - START) // S
        late_ns = 100 * MS * (since % 4) if since // 3 % 2 else 0
        last_ns = max(last_ns + 1000, item.arrival_ns + late_ns)
        yield true_ns, replace(item, arrival_ns=last_ns)


def test_values_that_change_with_the_load_are_reported_once_a_minute():
    pairer, tuned, _ = auto(rates=(None, None))
    live(pairer, *(on_a_busy_machine(camera(band, 5, seconds=130)) for band in (IR, VIS)))
    assert 2 <= len(tuned) <= 3
    assert len(set(tuned)) == len(tuned)


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


def starting_up(stream):
    """Frames of the first two seconds are noticed up to 120 ms late."""
    rng, last_ns = random.Random(3), 0
    for true_ns, item in stream:
        late_ns = round(rng.uniform(0, 120 * MS)) if true_ns < START + 2 * S else 0
        last_ns = max(last_ns + 1000, item.arrival_ns + late_ns)
        yield true_ns, replace(item, arrival_ns=last_ns)


def test_late_arrivals_do_not_make_a_camera_irregular():
    """They shift the estimate of its clock, and so the times of its frames on the host's; not those on its own."""
    infrared, visible = camera(IR, 1, phase_ns=34 * MS, jitter_ns=0), camera(VIS, 1, jitter_ns=0)
    pairs, at, _ = live(make(), starting_up(infrared), starting_up(visible))
    waits = waits_ms(pairs, at, 2, 8)
    assert sum(wait > 20 for wait in waits) < 0.1 * len(waits)


def test_a_frame_that_is_surely_the_nearest_is_not_waited_past():
    """The infrared frame is 6 ms older than the visible one and arrives before it; the next one is 34 ms later."""
    infrared = camera(IR, 1, phase_ns=34 * MS, jitter_ns=0, seconds=20)
    pairs, at, _ = live(make(), infrared, camera(VIS, 1, jitter_ns=0, seconds=20))
    waits = sorted(waits_ms(pairs, at, 5, 20))
    assert waits[len(waits) // 2] == 0
