"""Pairing is pure logic: every case below is decided without a thread, a clock or a sleep."""

import random
from itertools import pairwise

import pytest

from fusepipe.core.frames import Band, PairState, UnreadableFrame
from fusepipe.core.natural_order import natural_key
from fusepipe.pipeline.pairing.name_pairer import NamePairer
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.testing import MS, frame

IR, VIS = Band.INFRARED, Band.VISIBLE


def run(pairer, infrared, visible):
    """Feeds two recorded streams the way the pipeline does: always the one the pairer wants."""
    streams = {IR: iter(infrared), VIS: iter(visible)}
    pairs = []
    while (band := pairer.wants()) is not None:
        item = next(streams[band], None)
        pairs += pairer.end(band) if item is None else pairer.push(item)
    return pairs


def times(band, *times_ms):
    return [frame(band, i, round(t * MS)) for i, t in enumerate(times_ms)]


def names(band, *stems):
    return [frame(band, i, i * 40 * MS, name=stem) for i, stem in enumerate(stems)]


# -- by name


def test_names_pair_and_the_missing_partners_are_named():
    pairer = NamePairer()
    pairs = run(pairer, names(IR, "1", "2", "10", "12"), names(VIS, "2", "3", "10", "11"))
    assert [(p.infrared.name, p.visible.name, p.index) for p in pairs] == [("2", "2", 0), ("10", "10", 1)]
    assert pairer.log.skipped == {"no visible partner": 2, "no infrared partner": 2}
    assert set(pairer.log.notes) == {
        "no visible partner: 1", "no infrared partner: 3", "no infrared partner: 11", "no visible partner: 12",
    }  # fmt: skip


def test_an_unreadable_image_skips_its_pair_only():
    pairer = NamePairer()
    infrared = names(IR, "a", "b", "c")
    infrared[1] = UnreadableFrame(IR, 1, "truncated PNG", name="b")
    pairs = run(pairer, infrared, names(VIS, "a", "b", "c"))
    assert [p.name for p in pairs] == ["a", "c"]
    assert pairer.log.notes == ["unreadable infrared: b: truncated PNG"]


@pytest.mark.parametrize("seed", range(5))
def test_names_pair_like_a_set_intersection(seed):
    rng = random.Random(seed)
    stems = [f"f{rng.randrange(50)}_{rng.randrange(4)}" for _ in range(60)]
    left = sorted({s for s in stems if rng.random() < 0.7}, key=natural_key)
    right = sorted({s for s in stems if rng.random() < 0.7}, key=natural_key)
    pairs = run(NamePairer(), names(IR, *left), names(VIS, *right))
    assert [p.name for p in pairs] == sorted(set(left) & set(right), key=natural_key)


def test_natural_order_counts_numbers_and_is_total():
    stems = ["10", "2", "a10", "a9", "a09", "9b", "", "A1"]
    ordered = sorted(stems, key=natural_key)
    assert all(natural_key(a) < natural_key(b) for a, b in pairwise(ordered)), "no two stems tie"
    assert natural_key("a9") < natural_key("a10")
    assert natural_key("a09") != natural_key("a9")


# -- by time


def test_nearest_within_tolerance_and_skew_sign():
    pairs = run(TimePairer(tolerance_ns=20 * MS), times(IR, 3, 45, 77), times(VIS, 0, 40, 80))
    assert [p.skew_ns // MS for p in pairs] == [3, 5, -3]  # infrared minus visible
    assert {p.state for p in pairs} == {PairState.FUSED}


def test_skew_has_the_same_sign_when_infrared_leads():
    pairs = run(TimePairer(IR, tolerance_ns=20 * MS), times(IR, 3, 45), times(VIS, 0, 40))
    assert [p.skew_ns // MS for p in pairs] == [3, 5]
    assert [p.lead.band for p in pairs] == [IR, IR]


def test_offset_is_added_to_infrared_times():
    pairs = run(TimePairer(offset_ns=-500 * MS, tolerance_ns=MS), times(IR, 500, 540), times(VIS, 0, 40))
    assert [p.skew_ns for p in pairs] == [0, 0]


def test_9_hz_infrared_with_30_hz_visible_holds_between():
    infrared = times(IR, *(i * 1000 / 9 for i in range(9)))
    visible = times(VIS, *(i * 1000 / 30 for i in range(30)))
    pairs = run(TimePairer(tolerance_ns=17 * MS), infrared, visible)
    assert len(pairs) == 30
    for pair in pairs:
        nearest = min(infrared, key=lambda f: abs(f.capture_ns - pair.visible.capture_ns))
        if abs(nearest.capture_ns - pair.visible.capture_ns) <= 17 * MS:
            assert pair.state is PairState.FUSED and pair.infrared is nearest
        else:
            assert pair.state is PairState.HELD
            assert pair.infrared.capture_ns <= pair.visible.capture_ns
            assert pair.skew_ns == pair.infrared.capture_ns - pair.visible.capture_ns
    assert sum(p.state is PairState.HELD for p in pairs) > 10


def test_30_hz_infrared_with_9_hz_visible_counts_unused_frames():
    pairer = TimePairer(tolerance_ns=17 * MS)
    infrared = times(IR, *(i * 1000 / 30 for i in range(30)))
    visible = times(VIS, *(i * 1000 / 9 for i in range(9)))
    pairs = run(pairer, infrared, visible)
    assert len(pairs) == 9 and all(p.state is PairState.FUSED for p in pairs)
    assert pairer.log.skipped["unused infrared frame"] > 15


@pytest.mark.parametrize(
    ("policy", "states"),
    [
        ("hold", ["fused", "held", "held", "single"]),
        ("single", ["fused", "single", "single", "single"]),
        ("drop", ["fused"]),
        ("interpolate", ["fused", "held", "held", "single"]),  # no frame after them
    ],
)
def test_frames_without_a_partner(policy, states):
    pairer = TimePairer(on_missing=policy, max_hold_ns=100 * MS)
    pairs = run(pairer, times(IR, 0), times(VIS, 0, 40, 80, 120))
    assert [p.state for p in pairs] == states
    assert pairer.log.skipped["no infrared within tolerance"] == (3 if policy == "drop" else 0)


def test_between_two_infrared_frames_the_pair_has_both_and_its_share_of_the_time():
    pairer = TimePairer(on_missing="interpolate", tolerance_ns=5 * MS, offset_ns=10 * MS)
    pairs = run(pairer, times(IR, -10, 90, 200), times(VIS, 0, 25, 75, 98, 155, 210, 250))
    assert [p.state for p in pairs] == ["fused", *["interpolated"] * 2, "fused", "interpolated", "fused", "held"]
    between = [(p.infrared.index, p.between.following.index, p.between.share) for p in pairs if p.between is not None]
    assert between == [(0, 1, 0.25), (0, 1, 0.75), (1, 2, pytest.approx(0.5))]
    assert pairs[1].skew_ns == -25 * MS, "of the frame that was captured"
    assert pairer.log.skipped == {}


@pytest.mark.parametrize(
    ("gap_ms", "max_hold_ms", "state"), [(240, 1000, "interpolated"), (260, 1000, "held"), (240, 200, "held")]
)
def test_across_a_gap_the_earlier_frame_is_held(gap_ms, max_hold_ms, state):
    pairer = TimePairer(on_missing="interpolate", max_hold_ns=max_hold_ms * MS)
    pairs = run(pairer, times(IR, 0, gap_ms), times(VIS, 0, 100, gap_ms))
    assert [p.state for p in pairs] == ["fused", state, "fused"]
    assert (pairs[1].between is not None) == (state == "interpolated")


def test_towards_an_unreadable_frame_the_earlier_one_is_held():
    infrared = times(IR, 0, 100)
    infrared[1] = UnreadableFrame(IR, 1, "truncated", capture_ns=100 * MS)
    pairs = run(TimePairer(on_missing="interpolate"), infrared, times(VIS, 0, 50))
    assert [p.state for p in pairs] == ["fused", "held"] and pairs[1].between is None


def test_before_the_first_infrared_frame_there_is_nothing_to_hold():
    pairs = run(TimePairer(), times(IR, 100), times(VIS, 0, 100))
    assert [p.state for p in pairs] == [PairState.SINGLE, PairState.FUSED]
    assert pairs[0].infrared is None and pairs[0].skew_ns is None


def test_a_pair_is_decided_as_soon_as_no_better_match_can_come():
    pairer = TimePairer()
    assert pairer.push(frame(VIS, 0, 100 * MS)) == []
    assert pairer.push(frame(IR, 0, 95 * MS)) == []  # one at 101 ms would be nearer
    (pair,) = pairer.push(frame(IR, 1, 110 * MS))
    assert pair.skew_ns == -5 * MS


def test_an_unreadable_partner_skips_the_pair_it_belongs_to():
    pairer = TimePairer()
    infrared = times(IR, 0, 40, 80)
    infrared[1] = UnreadableFrame(IR, 1, "damaged", 40 * MS)
    pairs = run(pairer, infrared, times(VIS, 0, 40, 80))
    assert [p.visible.index for p in pairs] == [0, 2]
    assert pairer.log.skipped["pair with unreadable infrared"] == 1


def test_a_time_that_goes_back_once_is_refused_and_counted():
    pairer = TimePairer()
    pairs = run(pairer, times(IR, 0, 40, 80), times(VIS, 0, 40, 30, 80))
    assert [p.visible.capture_ns // MS for p in pairs] == [0, 40, 80]
    assert pairer.log.skipped["visible with wrong timestamp"] == 1


@pytest.mark.parametrize("wrong_ms", [1e9, 5e4, -1e5])
@pytest.mark.parametrize("band", [IR, VIS])
def test_one_wrong_timestamp_costs_one_pair(band, wrong_ms):
    stamps = [i * 40 for i in range(50)]
    lying = [*stamps[:20], wrong_ms, *stamps[21:]]
    pairer = TimePairer(on_missing="single")
    pairs = run(pairer, times(IR, *(lying if band is IR else stamps)), times(VIS, *(lying if band is VIS else stamps)))
    assert sum(p.state is PairState.FUSED for p in pairs) == 49
    assert pairer.log.skipped[f"{band} with wrong timestamp"] == 1


@pytest.mark.parametrize("back_ms", [5000, 900_000])
def test_a_clock_reset_in_both_streams_is_bridged(back_ms):
    stamps = [back_ms + i * 40 for i in range(50)] + [i * 40 for i in range(50)]
    pairer = TimePairer()
    pairs = run(pairer, times(IR, *stamps), times(VIS, *stamps))
    assert [p.state for p in pairs] == [PairState.FUSED] * 100
    out = [p.visible.capture_ns for p in pairs]
    assert out == sorted(set(out)), "times of the output never go back"
    assert pairer.log.skipped["visible clock reset"] == pairer.log.skipped["infrared clock reset"] == 1


def test_a_gap_in_the_recording_is_kept():
    stamps = [0, 40, 80, 60_000, 60_040]
    pairs = run(TimePairer(), times(IR, *stamps), times(VIS, *stamps))
    assert [p.visible.capture_ns // MS for p in pairs] == stamps and {p.state for p in pairs} == {PairState.FUSED}


def test_one_frame_a_minute_is_not_an_outlier():
    stamps = [i * 60_000 for i in range(8)]
    pairs = run(TimePairer(), times(IR, *stamps), times(VIS, *stamps))
    assert len(pairs) == 8 and {p.state for p in pairs} == {PairState.FUSED}


def test_infrared_frames_out_of_order_find_their_partners():
    pairs = run(TimePairer(tolerance_ns=5 * MS), times(IR, 0, 81, 39, 120), times(VIS, 0, 80, 120))
    assert [p.infrared.capture_ns // MS for p in pairs] == [0, 81, 120]


@pytest.mark.parametrize("seed", range(8))
def test_against_brute_force(seed):
    """Every visible frame gets the infrared frame that a search over all of them finds."""
    rng = random.Random(seed)
    infrared = times(IR, *sorted(rng.uniform(0, 2000) for _ in range(40)))
    visible = times(VIS, *sorted(rng.uniform(0, 2000) for _ in range(60)))
    pairs = run(TimePairer(tolerance_ns=15 * MS, on_missing="single"), infrared, visible)
    assert len(pairs) == 60
    for pair in pairs:
        best = min(infrared, key=lambda f: abs(f.capture_ns - pair.visible.capture_ns))
        if abs(best.capture_ns - pair.visible.capture_ns) <= 15 * MS:
            assert abs(pair.skew_ns) == abs(best.capture_ns - pair.visible.capture_ns)
        else:
            assert pair.state is PairState.SINGLE


# -- live


def test_live_waits_at_most_max_wait_then_holds():
    pairer = TimePairer(max_wait_ns=60 * MS)
    pairer.push(frame(IR, 0, 0, arrival_ns=0))
    assert pairer.push(frame(VIS, 0, 100 * MS, arrival_ns=1000 * MS)) == []
    assert pairer.deadline_ns() == 1060 * MS
    assert pairer.expire(1059 * MS) == []
    (pair,) = pairer.expire(1060 * MS)
    assert pair.state is PairState.HELD and pairer.deadline_ns() is None


def test_live_takes_the_nearest_there_is_when_the_wait_is_over():
    pairer = TimePairer()
    pairer.push(frame(VIS, 0, 100 * MS, arrival_ns=0))
    pairer.push(frame(IR, 0, 95 * MS, arrival_ns=0))
    (pair,) = pairer.expire(60 * MS)
    assert pair.state is PairState.FUSED and pair.skew_ns == -5 * MS


def test_live_memory_is_bounded_while_the_reference_is_silent():
    pairer = TimePairer()
    for i in range(5000):
        pairer.push(frame(IR, i, i * MS))
    assert pairer.candidates <= 256
    assert pairer.log.skipped["unused infrared frame"] == 5000 - 256


def test_live_and_offline_agree_on_a_recorded_arrival_log():
    """The same frames in order of arrival, the streams interleaved with delays, give the same pairs."""
    rng = random.Random(3)
    infrared = [frame(IR, i, round((i * 111.1 + rng.gauss(0, 2)) * MS)) for i in range(30)]
    visible = [frame(VIS, i, round((i * 33.3 + rng.gauss(0, 1)) * MS)) for i in range(95)]
    offline = run(TimePairer(), infrared, visible)
    delay_ms = {IR: 55, VIS: 5}  # constant, so that each stream keeps its order
    arrivals = sorted(infrared + visible, key=lambda f: f.capture_ns + delay_ms[f.band] * MS)
    live = TimePairer(max_wait_ns=10_000 * MS)
    pairs = [pair for item in arrivals for pair in live.push(item)]
    pairs += live.end(IR) + live.end(VIS)
    assert [(p.state, p.skew_ns, p.visible.index) for p in pairs] == [
        (p.state, p.skew_ns, p.visible.index) for p in offline
    ]
