"""Scaling visible frames to a constant output size."""

import numpy as np

from fusepipe.core.frames import Band, FramePair, PairState
from fusepipe.pipeline.stages.output_scaling import OutputScaler
from fusepipe.pipeline.testing import frame


def pair_of(height, width, chroma=True):
    shot = frame(Band.VISIBLE, 0, 0, pixels=np.full((height, width), 77, np.uint8), chroma=chroma)
    return FramePair(0, PairState.SINGLE, Band.VISIBLE, None, shot)


def test_the_first_size_and_colour_are_kept():
    warnings = []
    scaler = OutputScaler(None, None, warnings.append)
    first = pair_of(48, 64)
    assert scaler(first) is first and scaler.size == (64, 48)
    scaled = scaler(pair_of(96, 128)).visible
    assert [(p.width, p.height) for p in scaled.planes] == [(64, 48), (32, 24), (32, 24)]
    assert len(warnings) == 1 and "128x96" in warnings[0] and "aspect ratio" not in warnings[0]
    scaler(pair_of(96, 128))
    assert len(warnings) == 1, "reported once"
    grey = scaler(pair_of(36, 64, chroma=False)).visible
    assert [int(p.pixels[0, 0]) for p in grey.planes] == [77, 128, 128]
    assert "another aspect ratio" in warnings[1]
