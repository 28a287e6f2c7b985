"""The degradation state of a live rig."""

from fusepipe.core.frames import Band, PairState
from fusepipe.pipeline.pairing.degradation import Degradation
from fusepipe.pipeline.testing import MS

FUSED, HELD, SINGLE, NONE = PairState.FUSED, PairState.HELD, PairState.SINGLE, PairState.NO_SIGNAL


def changes(machine, script, step_ms=40):
    """(time in ms, state) of each change; the script has the state of a pair for each step."""
    seen = []
    for index, state in enumerate(script):
        change = machine.pair(state, index * step_ms * MS)
        if change is not None:
            seen.append((index * step_ms, change.after))
    return seen


def test_it_degrades_step_by_step_and_recovers_immediately():
    script = [FUSED] * 10 + [HELD] * 20 + [SINGLE] * 20 + [NONE] * 20 + [SINGLE] * 5 + [FUSED] * 5
    machine = Degradation(grace_ns=200 * MS)
    # a state degrades once the better one has not occurred for the grace time
    assert changes(machine, script) == [
        (0, FUSED), (600, HELD), (1400, SINGLE), (2200, NONE), (2800, SINGLE), (3000, FUSED),
    ]  # fmt: skip
    assert machine.time_s() == {"fused": 0.76, "held": 0.8, "single": 1.0, "no signal": 0.6}
    assert machine.change_count == 6


def test_the_log_names_the_camera_that_is_shown_alone():
    machine = Degradation(grace_ns=200 * MS)
    assert str(machine.pair(SINGLE, 0, Band.VISIBLE)) == "single, visible only"
    assert str(machine.pair(FUSED, 300 * MS, Band.VISIBLE)) == "fused (was single for 0.3 s)"
    assert machine.pair(SINGLE, 400 * MS, Band.INFRARED) is None
    assert str(machine.pair(SINGLE, 600 * MS, Band.INFRARED)) == "single, infrared only (was fused for 0.3 s)"


def test_a_slow_camera_beside_a_fast_one_does_not_flicker():
    assert changes(Degradation(), [FUSED, HELD, HELD] * 50, step_ms=33) == [(0, FUSED)]


def test_time_alone_does_not_end_a_state():
    machine = Degradation(grace_ns=200 * MS)
    machine.pair(FUSED, 0)
    assert machine.tick(10_000 * MS) is None, "the output is late: nothing newer is known"
    assert machine.pair(NONE, 10_001 * MS).after is NONE
