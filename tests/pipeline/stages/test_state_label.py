"""The state label burnt into degraded frames."""

import numpy as np

from fusepipe.core.frames import Band, FramePair, FusedBy, FusedFrame, PairState, Plane
from fusepipe.pipeline.stages.state_label import labelled
from fusepipe.pipeline.testing import frame

FUSED, HELD, SINGLE, NONE = PairState.FUSED, PairState.HELD, PairState.SINGLE, PairState.NO_SIGNAL


def test_degraded_frames_are_labelled_and_the_rest_of_the_image_is_unchanged():
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


def test_frames_of_a_lighter_model_are_labelled():
    luma = Plane(np.full((240, 640), 100, np.uint8))
    shot = frame(Band.VISIBLE, 0, 0, pixels=luma.pixels)
    pair = FramePair(0, FUSED, Band.VISIBLE, shot, shot)
    lighter = FusedBy("mean", "numpy", "fp32")
    made = FusedFrame(pair, (luma,), FUSED, 0, 0, 0, shot.time_base, substitute=lighter)
    pixels = labelled(made).planes[0].pixels
    assert pixels[:40, :200].max() == 255 and (pixels[60:] == 100).all()
