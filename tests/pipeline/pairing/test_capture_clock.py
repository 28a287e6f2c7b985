"""Clock models: skew and offset from arrival times, in simulation, with everything known."""

import random
from dataclasses import replace

import pytest

from fusepipe.core.frames import Band, Stamp
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.clock_model import ClockModel
from fusepipe.pipeline.testing import MS, frame

S = 1000 * MS


def camera(seed, *, ppm=0.0, seconds=60, fps=25, offset_ns=123 * S, stamp_jitter_ns=0, delay_ns=5 * MS):
    """(true capture, camera's time, arrival) of each frame: exponential jitter, an I-frame's burst once a second."""
    rng = random.Random(seed)
    last = 0
    for index in range(seconds * fps):
        true_ns = 5 * S + index * S // fps
        media_ns = round(true_ns * (1 + ppm * 1e-6)) + offset_ns + round(rng.gauss(0, stamp_jitter_ns))
        burst_ns = 60 * MS if index % fps == 0 else 0
        arrival_ns = true_ns + delay_ns + round(rng.expovariate(1 / (3 * MS))) + burst_ns
        last = max(last + 1000, arrival_ns)
        yield true_ns, media_ns, last


def stamped(clock, shots, kind="media", epoch=0):
    """(error of the time given out, frame) of each frame; the shortest delay is not an error."""
    for index, (true_ns, media_ns, arrival_ns) in enumerate(shots):
        out = clock.stamp(frame(Band.VISIBLE, index, media_ns, arrival_ns=arrival_ns))
        yield out.capture_ns - true_ns, out


@pytest.mark.parametrize("ppm", [-400, -100, 0, 400])
@pytest.mark.parametrize("seed", range(3))
def test_skew_is_found_through_jitter_and_bursts(ppm, seed):
    model = ClockModel()
    for _, media_ns, arrival_ns in camera(seed, ppm=ppm, stamp_jitter_ns=MS):
        model.observe(media_ns, arrival_ns)
    seen = model.estimate()
    assert abs(seen.skew_ppm - ppm) < min(40, seen.skew_error_ppm), f"{seed = }: {seen}"
    assert 4 * MS < seen.jitter_ns < 80 * MS


def test_the_error_given_with_the_skew_holds_the_truth():
    """Over 30 drawn cameras of various lengths: nearly always inside."""
    inside = known = 0
    for seed in range(30):
        rng = random.Random(1000 + seed)
        ppm, model = rng.uniform(-400, 400), ClockModel()
        for _, media_ns, arrival_ns in camera(seed, ppm=ppm, seconds=rng.randrange(20, 60), stamp_jitter_ns=MS):
            model.observe(media_ns, arrival_ns)
        seen = model.estimate()
        known += seen.skew_error_ppm < 1e9
        inside += abs(seen.skew_ppm - ppm) <= seen.skew_error_ppm
    assert known >= 27 and inside >= 0.95 * known, (known, inside)


@pytest.mark.parametrize("ppm", [-400, 400])
def test_capture_times_are_right_within_milliseconds_and_rise(ppm):
    clock = CaptureClock()
    errors, last = [], None
    for error_ns, out in stamped(clock, camera(7, ppm=ppm, stamp_jitter_ns=MS)):
        assert last is None or out.capture_ns > last
        assert out.capture_ns <= out.arrival_ns
        last = out.capture_ns
        errors.append(abs(error_ns - 5 * MS) / MS)
    errors = sorted(errors[250:])
    assert errors[len(errors) // 2] < 4 and errors[int(len(errors) * 0.99)] < 8, (errors[len(errors) // 2], errors[-9:])


def test_a_slow_start_is_corrected_without_stepping_back():
    """The first second comes 300 ms late, as from a cache; then frames come on time."""
    shots = [
        (true, media, arrival + (300 * MS if i < 25 else 0))
        for i, (true, media, arrival) in enumerate(camera(1, seconds=10))
    ]
    shots = [
        (true, media, max(arrival, shots[24][2]) if i > 24 else arrival)
        for i, (true, media, arrival) in enumerate(shots)
    ]
    outs = list(stamped(CaptureClock(), shots))
    times = [out.capture_ns for _, out in outs]
    assert times == sorted(set(times))
    assert abs(outs[-1][0] - 5 * MS) < 3 * MS


def test_one_wrong_timestamp_affects_no_other_frame():
    clock = CaptureClock()
    shots = list(camera(2, seconds=20))
    shots[310] = (shots[310][0], shots[310][1] + 3600 * S, shots[310][2])
    outs = list(stamped(clock, shots))
    assert clock.report().outliers == 1 and clock.report().resets == 0
    assert max(abs(error - 5 * MS) for error, _ in outs[311:]) < 10 * MS
    assert abs(outs[310][0]) < 100 * MS, "it is taken at its arrival"


@pytest.mark.parametrize("jump_ns", [-90 * S, -2 * S, 700 * S])
def test_a_clock_that_jumps_is_followed(jump_ns):
    clock = CaptureClock()
    shots = [(t, m + (jump_ns if i >= 300 else 0), a) for i, (t, m, a) in enumerate(camera(3, seconds=30))]
    outs = list(stamped(clock, shots))
    assert clock.report().resets == 1
    times = [out.capture_ns for _, out in outs]
    assert times == sorted(set(times))
    assert max(abs(error - 5 * MS) for error, _ in outs[350:]) < 10 * MS


def sender_shots(clock, *, wall_error_ns=0, wall_ppm=0.0, count=500, epoch=0, start=0, reports_from=50, running=False):
    """A camera with 80 ms of transport delay whose packets carry its wall clock from the 50th on.

    ``running``: it goes on with the media time of the frames before ``start``.
    """
    for index in range(start, start + count):
        true_ns = 5 * S + index * 40 * MS
        reported = index - start >= reports_from
        sender_ns = true_ns + wall_error_ns + round((true_ns - 5 * S) * wall_ppm * 1e-6) if reported else None
        media_ns = (index - (0 if running else start)) * 40 * MS
        shot = frame(Band.VISIBLE, index, media_ns, arrival_ns=true_ns + 80 * MS + index % 7 * MS)
        out = clock.stamp(replace(shot, stamp=Stamp("media", epoch, sender_ns)))
        yield out.capture_ns - true_ns


def test_a_senders_clock_that_agrees_is_believed_and_its_delay_remembered():
    clock = CaptureClock()
    errors = list(sender_shots(clock))
    assert errors[40] > 70 * MS, "before the first report the delay is not known"
    assert max(map(abs, errors[100:])) < 2 * MS and clock.report().grade == "sender"
    assert clock.report().delay_ns == pytest.approx(80 * MS, abs=MS)
    again = list(sender_shots(clock, epoch=1, start=600, count=40))
    assert clock.report().grade == "media" and clock.report().delay_ns is None
    assert max(map(abs, again[10:])) < 8 * MS, "the delay of the last connection holds until the next report"


@pytest.mark.parametrize(
    "wrong", [{"wall_error_ns": 3 * S}, {"wall_error_ns": -3 * S}, {"wall_ppm": 400.0, "count": 3000}]
)
def test_an_implausible_sender_clock_is_not_used(wrong):
    clock = CaptureClock()
    errors = list(sender_shots(clock, **wrong))
    assert clock.report().grade == "media"
    assert max(abs(e) for e in errors[-100:]) < 120 * MS


@pytest.mark.parametrize("set_ms", [-1000, 300, 10_000])
def test_a_senders_clock_that_is_set_wrong_leaves_the_delay_learned_before(set_ms):
    clock = CaptureClock()
    list(sender_shots(clock))
    errors = list(sender_shots(clock, start=500, count=3000, wall_error_ns=set_ms * MS, reports_from=0, running=True))
    assert max(map(abs, errors)) < 8 * MS, "it was wrong by so much for the rest of the connection"
    assert clock.report().grade == "media"


def test_a_senders_clock_that_is_set_and_plausible_counts_anew():
    clock = CaptureClock()
    list(sender_shots(clock, wall_error_ns=-200 * MS))
    assert clock.report().delay_ns == pytest.approx(280 * MS, abs=MS)
    errors = list(sender_shots(clock, start=500, count=500, reports_from=0, running=True))
    assert max(map(abs, errors[100:])) < 2 * MS and clock.report().delay_ns == pytest.approx(80 * MS, abs=MS)


def test_arrival_and_kernel_times():
    late = CaptureClock(latency_ns=30 * MS)
    shot = replace(frame(Band.VISIBLE, 0, 9 * S, arrival_ns=9 * S), stamp=Stamp("arrival"))
    assert late.stamp(shot).capture_ns == 9 * S - 30 * MS and late.report().grade == "arrival"
    began = replace(frame(Band.VISIBLE, 1, 9 * S + 20 * MS, arrival_ns=9 * S + 120 * MS), stamp=Stamp("arrival"))
    assert CaptureClock(latency_ns=30 * MS).stamp(began).capture_ns == 9 * S - 10 * MS
    kernel = CaptureClock(latency_ns=30 * MS)
    shot = replace(frame(Band.VISIBLE, 0, 9 * S - 7 * MS, arrival_ns=9 * S), stamp=Stamp("kernel"))
    assert kernel.stamp(shot).capture_ns == 9 * S - 7 * MS and kernel.report().grade == "kernel"
