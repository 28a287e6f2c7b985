"""The border of the infrared view does not show in the output, with any kind of fuser."""

from dataclasses import replace

import numpy as np
import pytest

from fusepipe.core.frames import Band, FramePair, PairState, Plane
from fusepipe.pipeline.stages.fusion import FusionStep
from fusepipe.pipeline.stages.registration import Registration
from fusepipe.pipeline.stages.tonemap import ToneMap
from fusepipe.pipeline.testing import frame
from fusepipe.rig.factories.fusers import load_fuser
from fusepipe.rig.factories.registration import make_aligner

VISIBLE, INFRARED = 150, 20
MAX_STEP = 3  # levels between two neighbouring pixels; the flat images differ by 130
MAX_HALO = 3  # levels beyond both flat images
# a quarter of the visible scale: a pixel of the network is four of the image; measured 4 levels there, else at most 1
MAX_HALO_OF = {("stream", 2): 5}


def flat(band, size, level):
    shot = frame(band, 0, 0, pixels=np.full(size[::-1], level, np.uint8))
    return replace(shot, planes=(Plane(np.full(size[::-1], level, np.uint8)),))


@pytest.mark.parametrize("infrared_size", [(320, 240), (640, 480), (160, 120)], ids=str)
@pytest.mark.parametrize("model", ["mean", "max", "pyramid", "stream", "stream-hq"])
def test_flat_images_have_no_edge_and_no_halo_where_the_infrared_view_ends(model, infrared_size):
    level = VISIBLE + 90 if model == "max" else INFRARED
    with load_fuser(model) as fuser:
        info = fuser.info
        register = Registration(
            make_aligner("synthetic://street").alignment,
            (640, 480),
            apply=not info.accepts_warp,
            max_visible_levels=info.max_visible_levels,
        )
        pair = FramePair(
            0,
            PairState.FUSED,
            Band.VISIBLE,
            flat(Band.INFRARED, infrared_size, level),
            flat(Band.VISIBLE, (640, 480), VISIBLE),
            0,
        )
        step = FusionStep(fuser)
        registered = register(pair)
        step.submit(ToneMap(None, print)(registered))
        out = step.finish().planes[0].pixels.astype(int)
    middle = int(np.median(out[200:280, 280:360]))
    assert abs(middle - VISIBLE) > 20, "the two images are fused at all"
    assert max(np.abs(np.diff(out, axis=axis)).max() for axis in (0, 1)) <= MAX_STEP
    low, high = sorted((VISIBLE, middle))
    halo = MAX_HALO_OF.get((model, registered.visible_levels), MAX_HALO)
    assert low - halo <= out.min() and out.max() <= high + halo, "no halo"
