"""The rig's state machine, the freeze detector, the canvas and the label: no threads, no clocks."""

import numpy as np

from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.pipeline.pairing.degradation import Degradation
from fusepipe.pipeline.pairing.freeze import FreezeDetector
from fusepipe.pipeline.stages.output_scaling import OutputScaler
from fusepipe.pipeline.stages.state_label import labelled
from fusepipe.pipeline.testing import MS, frame

FUSED, HELD, SINGLE, NONE = PairState.FUSED, PairState.HELD, PairState.SINGLE, PairState.NO_SIGNAL


def changes(machine, script, step_ms=40):
    """(when in ms, state) of each change; the script has a pair's state each step."""
    seen = []
    for index, state in enumerate(script):
        change = machine.pair(state, index * step_ms * MS)
        if change is not None:
            seen.append((index * step_ms, change.after))
    return seen


def test_it_goes_down_step_by_step_and_back_at_once():
    script = [FUSED] * 10 + [HELD] * 20 + [SINGLE] * 20 + [NONE] * 20 + [SINGLE] * 5 + [FUSED] * 5
    machine = Degradation(grace_ns=200 * MS)
    # each loss is believed when the better state was not seen for the grace time
    assert changes(machine, script) == [
        (0, FUSED), (600, HELD), (1400, SINGLE), (2200, NONE), (2800, SINGLE), (3000, FUSED),
    ]  # fmt: skip
    assert machine.time_s() == {"fused": 0.76, "held": 0.8, "single": 1.0, "no signal": 0.6}
    assert machine.change_count == 6


def test_a_slow_camera_beside_a_fast_one_does_not_flicker():
    assert changes(Degradation(), [FUSED, HELD, HELD] * 50, step_ms=33) == [(0, FUSED)]


def test_time_alone_ends_a_state_only_when_something_else_came():
    machine = Degradation(grace_ns=200 * MS)
    machine.pair(FUSED, 0)
    assert machine.tick(10_000 * MS) is None, "the output is late: nothing better is known"
    assert machine.pair(NONE, 10_001 * MS).after is NONE


def shots(pictures, step_ms=40):
    rng = np.random.default_rng(0)
    kinds = {}
    for index, kind in enumerate(pictures):
        pixels = kinds.setdefault(kind, rng.integers(0, 255, (60, 80), dtype=np.uint8))
        yield frame(Band.INFRARED, index, index * step_ms * MS, pixels=pixels, arrival_ns=index * step_ms * MS)


def test_a_standing_picture_is_a_freeze_and_a_repeat_or_two_are_not():
    detector = FreezeDetector()
    seen = "".join("F" if detector.push(f) else "." for f in shots("abbbc" + "d" * 10 + "ef"))
    assert seen == "." * 9 + "F" * 6 + ".."
    assert (detector.freezes, detector.longest_ns) == (1, 360 * MS)


def test_two_pictures_that_differ_in_one_grey_level_are_no_freeze():
    detector, pixels = FreezeDetector(), np.full((60, 80), 90, np.uint8)
    for index in range(20):
        pixels = pixels.copy()
        pixels[30, index] += 1
        shot = frame(Band.INFRARED, index, 0, pixels=pixels, arrival_ns=index * 40 * MS)
        assert not detector.push(shot)


def pair_of(height, width, chroma=True):
    shot = frame(Band.VISIBLE, 0, 0, pixels=np.full((height, width), 77, np.uint8), chroma=chroma)
    return FramePair(0, SINGLE, Band.VISIBLE, None, shot)


def test_the_canvas_keeps_the_first_size_and_colour():
    told = []
    canvas = OutputScaler(None, None, told.append)
    first = pair_of(48, 64)
    assert canvas(first) is first and canvas.size == (64, 48)
    fitted = canvas(pair_of(96, 128)).visible
    assert [(p.width, p.height) for p in fitted.planes] == [(64, 48), (32, 24), (32, 24)]
    assert len(told) == 1 and "128x96" in told[0] and "shape" not in told[0]
    canvas(pair_of(96, 128))
    assert len(told) == 1, "said once"
    grey = canvas(pair_of(36, 64, chroma=False)).visible
    assert [int(p.pixels[0, 0]) for p in grey.planes] == [77, 128, 128]
    assert "another shape" in told[1]


def test_the_label_is_on_what_is_not_fused_and_leaves_the_rest_of_the_picture():
    luma = Plane(np.full((240, 320), 100, np.uint8), 8, "limited")
    shot = frame(Band.VISIBLE, 0, 0, pixels=luma.pixels)
    pair = FramePair(0, SINGLE, Band.VISIBLE, None, shot)

    def made(state):
        return FusedFrame(pair, (luma,), state, 0, 0, 0, shot.time_base)

    assert labelled(made(FUSED)).planes[0] is luma
    for state in (HELD, SINGLE, NONE):
        pixels = labelled(made(state)).planes[0].pixels
        assert pixels[:40, :150].max() == 235 and pixels.min() == 16
        assert (pixels[60:] == 100).all() and (luma.pixels == 100).all()
