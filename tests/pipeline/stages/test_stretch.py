"""Infrared images that are stretched for want of a calibration are reported, whenever they come."""

import numpy as np
import pytest

from fusepipe.core.frames import Band, FramePair, PairState
from fusepipe.pipeline.stages.stretch import MAX_SEEN, StretchWarning
from fusepipe.pipeline.testing import frame


def pair(infrared, visible):
    frames = (
        None if size is None else frame(band, 0, 0, pixels=np.zeros(size[::-1], np.uint8))
        for band, size in ((Band.INFRARED, infrared), (Band.VISIBLE, visible))
    )
    return FramePair(0, PairState.FUSED, Band.VISIBLE, *frames)


def test_a_camera_that_returns_with_another_shape_is_reported_once():
    warnings = []
    look = StretchWarning("registration.calibration", warnings.append)
    for one in (pair(None, (160, 120)), pair((160, 64), None), pair((80, 60), (160, 120)), pair((81, 60), (160, 120))):
        assert look(one) is one
    assert warnings == []
    for _ in range(3):
        look(pair((160, 64), (160, 120)))
    assert len(warnings) == 1
    assert "infrared 160x64 and visible 160x120 differ in shape" in warnings[0]
    assert warnings[0].endswith("set registration.calibration")


@pytest.mark.parametrize("known", [True, False])
def test_what_was_reported_at_the_start_is_not_repeated(known):
    warnings = []
    look = StretchWarning("registration.calibration", warnings.append)
    if known:
        look.ignore((160, 64), (160, 120))
    look(pair((160, 64), (160, 120)))
    assert len(warnings) == (not known)


def test_sizes_that_change_all_the_time_do_not_fill_the_log():
    warnings = []
    look = StretchWarning("registration.calibration", warnings.append)
    for width in range(300, 300 + 3 * MAX_SEEN):
        look(pair((width, 60), (160, 120)))
    assert len(warnings) == MAX_SEEN
