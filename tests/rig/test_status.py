"""The status of a rig that was started, from its figures."""

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import PairState
from fusepipe.core.rig_state import RigState, RigStatus
from fusepipe.rig.report.status import degradations, status_of

UP = {"sink": "a.mkv", "up": True, "error": None}
DOWN = {"sink": "b.mkv", "up": False, "error": "b.mkv: the disk is full"}


def test_a_rig_that_fuses_for_all_of_its_outputs_is_not_degraded():
    assert degradations(PairState.FUSED, [UP]) == ()
    assert degradations(None, [UP]) == (), "a recording, or before the first pair"


def test_a_missing_camera_and_a_failed_output_are_both_reasons():
    reasons = degradations(PairState.SINGLE, [UP, DOWN])
    assert reasons == ("only one camera delivers frames", "output is down: b.mkv: the disk is full")


def test_the_camera_that_pairs_lack_is_named_with_what_is_wrong_with_it():
    present, away = {"up": True, "frozen_s": 0.0}, {"up": False, "frozen_s": 0.0}
    frozen = {"up": False, "frozen_s": 3.2}
    (_, reason) = degradations(PairState.SINGLE, [UP], None, {"infrared": frozen, "visible": present})
    assert reason == "the image of the infrared camera is frozen: its frames repeat one image"
    (_, reason) = degradations(PairState.SINGLE, [UP], None, {"infrared": present, "visible": away})
    assert reason == "the visible camera delivers no frames"
    assert degradations(PairState.FUSED, [UP], None, {"infrared": away, "visible": present}) == (), "not yet missing"


def test_the_state_of_a_run():
    assert status_of(finished=False, error=None, reasons=()) == RigStatus(RigState.RUNNING)
    assert status_of(finished=False, error=None, reasons=("x",)) == RigStatus(RigState.DEGRADED, ("x",))
    assert status_of(finished=True, error=None, reasons=("x",)) == RigStatus(RigState.STOPPED)
    assert status_of(finished=True, error=SinkError("full"), reasons=()) == RigStatus(RigState.FAILED, ("full",))
