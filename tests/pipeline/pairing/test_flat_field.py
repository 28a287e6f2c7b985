"""Flat-field corrections that telemetry reports: their frames count as frozen, live and recorded."""

from dataclasses import replace

import pytest

from fusepipe.core.camera_telemetry import CameraTelemetry
from fusepipe.core.frames import Band, Original, PairState
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.flat_field import FlatFieldPairer, FlatFieldWatch
from fusepipe.pipeline.pairing.live_pairer import LivePairer
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.testing import MS, frame

STEP = 40 * MS


def infrared(index, ffc):
    one = frame(Band.INFRARED, index, index * STEP, arrival_ns=index * STEP)
    return replace(one, telemetry=CameraTelemetry(1, index, ffc, 30.0 + index))


def test_the_frames_of_a_correction_have_the_last_one_before_it_as_original():
    watch = FlatFieldWatch()
    states = ["complete", "imminent", "in progress", "in progress", "complete", "in progress"]
    originals = [watch.push(infrared(index, ffc)).original for index, ffc in enumerate(states)]
    assert originals == [None, None, Original(1, STEP), Original(1, STEP), None, Original(4, 4 * STEP)]
    record = watch.record()
    assert record is not None
    assert (record["frames"], record["ffc_frames"], record["ffcs"]) == (6, 3, 2)
    assert (record["ffc"], record["fpa_c"]) == ("in progress", 35.0)


def test_a_run_that_starts_within_a_correction_has_no_original_yet():
    watch = FlatFieldWatch()
    assert watch.push(infrared(0, "in progress")).original is None
    assert watch.push(infrared(1, "complete")).original is None


def test_frames_without_telemetry_and_frozen_ones_stay_as_they_are():
    watch = FlatFieldWatch()
    plain = frame(Band.INFRARED, 0, 0)
    assert watch.push(plain) is plain and watch.record() is None
    watch.push(infrared(1, "complete"))
    frozen = replace(infrared(2, "in progress"), original=Original(0, 0))
    assert watch.push(frozen) is frozen


def recorded():
    return FlatFieldPairer(TimePairer(tolerance_ns=10 * MS))


def live():
    clocks = {band: CaptureClock() for band in Band}
    return LivePairer(TimePairer(tolerance_ns=10 * MS), clocks, reference=Band.VISIBLE, size=(12, 8), start_ns=0)


@pytest.mark.parametrize("make", [recorded, live])
def test_pairs_of_a_correction_are_held_with_the_skew_of_the_image_that_they_show(make):
    pairer, pairs = make(), []
    for index in range(6):
        ffc = "in progress" if index in (2, 3) else "complete"
        pairs += pairer.push(infrared(index, ffc))
        pairs += pairer.push(frame(Band.VISIBLE, index, index * STEP, arrival_ns=index * STEP))
    for band in Band:
        pairs += pairer.end(band)
    states = [pair.state for pair in pairs]
    assert states == [PairState.HELD if index in (2, 3) else PairState.FUSED for index in range(6)]
    assert [pairs[index].skew_ns for index in (2, 3)] == [-STEP, -2 * STEP]
    assert pairer.flat_field.record()["ffcs"] == 1


def test_towards_and_within_a_correction_nothing_is_interpolated():
    pairer, pairs = FlatFieldPairer(TimePairer(on_missing="interpolate", tolerance_ns=1 * MS)), []
    frames = {
        Band.INFRARED: [infrared(i, ffc) for i, ffc in enumerate(["complete", "complete", "in progress", "complete"])]
    }
    frames[Band.VISIBLE] = [frame(Band.VISIBLE, i, i * STEP + STEP // 2) for i in range(3)]
    while (band := pairer.wants()) is not None:
        pairs += pairer.push(frames[band].pop(0)) if frames[band] else pairer.end(band)
    assert [(p.state, p.between is not None) for p in pairs] == [
        (PairState.INTERPOLATED, True),
        (PairState.HELD, False),
        (PairState.HELD, False),
    ]
