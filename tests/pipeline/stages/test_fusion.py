"""The fusion stage: luma in, luma out; chroma untouched; outside the infrared view the visible luma."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Band, FramePair, FusedBy, PairState, Plane
from fusepipe.core.fuser import FunctionFuser, FuserInfo
from fusepipe.pipeline.stages.fusion import FusionStep, blend_of
from fusepipe.pipeline.stages.registration import Registration
from fusepipe.pipeline.stages.tonemap import ToneMap
from fusepipe.pipeline.testing import frame

RNG = np.random.default_rng(1)


@dataclass(frozen=True)
class FixedWarp:
    """Sees the left half only."""

    valid: np.ndarray
    version: str = "half"

    def apply(self, pixels):
        return np.where(self.valid > 0, pixels, 0).astype(pixels.dtype)


def fuser(function):
    return FunctionFuser(FuserInfo("test", "test", "uint8"), function)


def pair(visible, infrared, value_range="full", chroma=True):
    vis = frame(Band.VISIBLE, 0, 0, pixels=visible, chroma=chroma)
    vis = replace(vis, planes=(Plane(visible, 8, value_range), *vis.chroma))
    ir = frame(Band.INFRARED, 0, 0, pixels=infrared)
    return FramePair(0, PairState.FUSED, Band.VISIBLE, ir, vis, 0)


def through(made, function, warp=None):
    made = ToneMap(None, lambda message: None)(Registration(lambda i, v: warp, (1, 1))(made))
    step = FusionStep(fuser(function))
    step.submit(made)
    return step.finish()


def noise(dtype=np.uint8, low=0, high=256):
    return RNG.integers(low, high, (24, 33), dtype=dtype)


def test_chroma_planes_are_the_very_same_objects():
    made = pair(noise(), noise())
    out = through(made, np.maximum)
    assert out.planes[1:] == made.visible.planes[1:]
    assert np.array_equal(out.planes[0].pixels, np.maximum(made.visible.luma.pixels, made.infrared.luma.pixels))


def test_colours_are_weighted_only_if_asked():
    flat = np.full((24, 33), 120, np.uint8)
    made = pair(flat, noise())
    tint = Plane(np.full((12, 17), 140, np.uint8))
    made = replace(made, visible=replace(made.visible, planes=(made.visible.luma, tint, tint)))
    step = {}
    for colour in ("visible", "weighted", "grey"):
        stage = FusionStep(fuser(lambda infrared, visible: infrared), colour=colour)
        stage.submit(ToneMap(None, print)(Registration(lambda i, v: None, (1, 1))(made)))
        step[colour] = stage.finish().planes[1:]
    assert step["visible"] == (tint, tint) and step["grey"] == ()
    assert all((plane.pixels == 128).all() for plane in step["weighted"]), "the noise is not the visible image's"


def test_grey_stays_grey():
    assert len(through(pair(noise(), noise(), chroma=False), np.maximum).planes) == 1


def test_outside_the_infrared_view_the_output_is_the_visible_luma():
    valid = np.zeros((24, 33), np.uint8)
    valid[:, :16] = 255
    seen = []

    def spy(infrared, visible):
        seen.append(infrared)
        return np.full_like(visible, 77)

    for value_range in ("full", "limited"):
        made = pair(noise(), noise(), value_range)  # limited with illegal codes below 16 and above 235, too
        out = through(made, spy, FixedWarp(valid))
        assert np.array_equal(out.planes[0].pixels[:, 16:], made.visible.luma.pixels[:, 16:])
        assert len(np.unique(out.planes[0].pixels[:, :8])) == 1
        # nothing is put in its place before it is fused, which would make a step at the border of the view
        assert np.array_equal(seen[-1], FixedWarp(valid).apply(made.infrared.luma.pixels))


def test_the_fused_image_fades_in_from_the_border_of_the_infrared_view():
    valid = np.zeros((8, 640), np.uint8)
    valid[:, :320] = 255
    made = pair(np.full((8, 640), 40, np.uint8), np.full((8, 640), 200, np.uint8))
    row = through(made, lambda i, v: np.full_like(v, 200), FixedWarp(valid)).planes[0].pixels[4].astype(int)
    assert set(row[320:]) == {40} and set(row[:266]) == {200}
    assert np.all(np.diff(row) <= 0) and np.diff(row).min() >= -5, "no edge where the view ends"
    assert row[319] - 40 <= 1 and row[310] - 40 <= 25, "nor a kink"


def test_a_narrow_view_is_not_faded_away():
    valid = np.zeros((60, 640), np.uint8)
    valid[20:40, 300:320] = 255
    made = pair(np.full((60, 640), 40, np.uint8), np.full((60, 640), 200, np.uint8))
    out = through(made, lambda i, v: np.full_like(v, 200), FixedWarp(valid)).planes[0].pixels
    assert (out[20:40, 300:320] == 200).mean() > 0.2


@pytest.mark.parametrize(
    ("rows", "columns"), [(slice(5, 40), slice(9, 60)), (slice(0, 48), slice(0, 20)), (slice(20, 22), slice(30, 33))]
)
def test_the_parts_of_a_blend_do_not_overlap_and_leave_out_the_middle_alone(rows, columns):
    valid = np.zeros((48, 64), np.uint8)
    valid[rows, columns] = 255
    blend = blend_of(valid)
    covered = np.zeros(valid.shape, int)
    for part in (*blend.unseen, *(part[:2] for part in blend.parts)):
        covered[part] += 1
    assert covered.max() == 1 and covered[valid == 0].all()
    assert sum(covered[part].size for part in blend.unseen) >= (valid == 0).sum(), "only the view is blended"
    inside = np.full(valid.shape, 255, np.uint8)
    blend(inside, np.zeros_like(inside))
    assert not inside[valid == 0].any() and inside[rows, columns].max() == 255


@pytest.mark.parametrize("value_range", ["full", "limited"])
def test_white_stays_white_and_black_black_in_either_range(value_range):
    black, white = (0, 255) if value_range == "full" else (16, 235)
    visible = np.array([[black, white]], np.uint8)
    out = through(
        pair(visible, np.array([[0, 255]], np.uint8), value_range),
        lambda i, v: ((i.astype(int) + v) // 2).astype(np.uint8),
    )
    assert out.planes[0].pixels.tolist() == [[black, white]]
    assert out.planes[0].value_range == value_range


def test_a_limited_range_round_trip_is_exact():
    visible = np.arange(16, 236, dtype=np.uint8)[None, :]
    out = through(pair(visible, visible, "limited"), lambda i, v: v)
    assert np.array_equal(out.planes[0].pixels, visible)


def test_limited_infrared_is_brought_to_full_range_before_it_is_fused():
    made = pair(np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.uint8))
    limited = replace(made.infrared, planes=(Plane(np.array([[16, 235]], np.uint8), 8, "limited"),))
    out = through(replace(made, infrared=limited), lambda i, v: i)
    assert out.planes[0].pixels.tolist() == [[0, 255]]


def test_a_lone_visible_frame_passes_untouched():
    made = replace(pair(noise(), noise()), infrared=None, state=PairState.SINGLE)
    out = through(made, np.maximum)
    assert out.planes == made.visible.planes and out.state is PairState.SINGLE


def test_a_lone_infrared_frame_gives_its_luma_with_neutral_chroma():
    made = replace(pair(noise(), noise()), visible=None, reference=Band.INFRARED, state=PairState.SINGLE)
    made = ToneMap(None, lambda message: None)(Registration(lambda i, v: None, (33, 24))(made))
    step = FusionStep(fuser(np.maximum), grey_without_visible=False)
    step.submit(made)
    out = step.finish()
    assert np.array_equal(out.planes[0].pixels, made.infrared.luma.pixels)
    assert set(np.unique(out.planes[1].pixels)) == {128} and out.planes[1].pixels.shape == (12, 17)


def test_order_is_kept_with_two_in_flight():
    step = FusionStep(FunctionFuser(FuserInfo("t", "t", "u", max_in_flight=2), lambda i, v: v))
    made = [
        ToneMap(None, print)(Registration(lambda i, v: None, (1, 1))(replace(pair(noise(), noise()), index=i)))
        for i in range(2)
    ]
    for one in made:
        assert not step.full
        step.submit(one)
    assert step.full
    assert [step.finish().index, step.finish().index] == [0, 1]


@pytest.mark.parametrize(("device", "in_flight"), [("cpu (some)", 1), ("cuda:0", 2)])
def test_a_live_rig_lets_no_request_wait_inside_an_engine_of_the_cpu(device, in_flight):
    info = FuserInfo("t", "t", "u", device=device, max_in_flight=2)
    step = FusionStep(FunctionFuser(info, lambda i, v: v), prompt=True)
    made = ToneMap(None, print)(Registration(lambda i, v: None, (1, 1))(pair(noise(), noise())))
    for _ in range(in_flight):
        assert not step.full
        step.submit(made)
    assert step.full


def test_a_nearly_flat_16_bit_camera_is_reported_once():
    warnings = []
    tone = ToneMap(None, warnings.append)

    def with_counts(counts):
        made = pair(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))
        return replace(made, infrared=replace(made.infrared, planes=(Plane(counts, 16),)), registered=Plane(counts, 16))

    shutter, made = (with_counts(np.array([[21000, high] * 2] * 4, np.uint16)) for high in (21000, 21400))
    tone(shutter)
    assert warnings == []
    tone(made)
    out = tone(made)
    assert len(warnings) == 1 and "range: [" in warnings[0]
    assert out.registered.pixels.dtype == np.uint16, "raw counts stay on the pair"


def test_a_substitute_takes_over_at_the_visible_size_and_its_frames_name_it():
    """The rig's own fuser takes the infrared image at half the size; the substitute takes it as every fuser does."""
    seen = {}

    def spy(name):
        def fuse(infrared, visible):
            seen[name] = infrared
            return np.full_like(visible, 77)

        return fuse

    valid = np.zeros((12, 16), np.uint8)
    valid[:, :8] = 255
    visible, small = noise()[:, :32], noise()[:12, :16]
    made = pair(visible, small)
    made = replace(made, warp=FixedWarp(valid), registered=Plane(small), luma=Plane(small), visible_levels=1)

    class Own(FunctionFuser):
        def submit(self, batch):
            seen["form"] = batch.visible_levels, batch.infrared[0].shape
            return super().submit(batch)

    own = Own(FuserInfo("own", "test", "uint8", max_visible_levels=1), spy("own"))
    other = FunctionFuser(FuserInfo("lighter", "test", "exact"), spy("lighter"))
    late = fuser(spy("late"))
    step = FusionStep(own)
    frames = []
    for used in (None, other, None):
        step.substitute(used)
        step.submit(made)
        frames.append(step.finish())
    assert [f.substitute for f in frames] == [None, FusedBy("lighter", "test", "exact"), None]
    assert seen["form"] == (1, (12, 16)) and seen["lighter"].shape == (24, 32) and step.size == (24, 32)
    assert np.array_equal(seen["lighter"], made.registered_luma().pixels), "no edge at the border of the infrared view"
    assert all(np.array_equal(f.planes[0].pixels[:, 16:], visible[:, 16:]) for f in frames)
    step.close()
    step.substitute(late)
    for closed in (other, late):
        with pytest.raises(EngineError, match="closed"):
            closed.fuse(visible, visible)
    assert own.fuse(visible, visible).shape == (24, 32), "the caller's"
