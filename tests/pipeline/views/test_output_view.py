"""What an output shows of a fused frame: the modes of its view, and what they leave as it is."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.view_frames import COLOUR, HEIGHT, RAMP, WIDTH, fused_frame

from fusepipe.core.frames import Plane
from fusepipe.core.view_settings import MODES, PALETTES, PLAIN, ViewSettings
from fusepipe.pipeline.views.output_view import OutputView


class Half:
    """A warp whose infrared camera sees the right half."""

    version, scale = "half", 1.0
    valid = np.where(np.arange(WIDTH)[None] >= WIDTH // 2, 255, 0).astype(np.uint8).repeat(HEIGHT, axis=0)


def show(frame, **settings):
    return OutputView(ViewSettings(**settings))(frame)


def test_the_default_view_is_the_fused_frame_itself():
    frame = fused_frame()
    assert ViewSettings() == PLAIN and OutputView()(frame) is frame


def test_one_camera_alone_is_shown_with_its_own_planes():
    frame = fused_frame()
    assert show(frame, mode="visible").planes is frame.pair.visible.planes
    infrared = show(frame, mode="infrared")
    assert np.array_equal(infrared.planes[0].pixels, RAMP)
    assert all((plane.pixels == 128).all() for plane in infrared.planes[1:])
    assert np.array_equal(show(frame, mode="infrared", palette="black-hot").planes[0].pixels, 255 - RAMP)


def test_comparisons_show_each_camera_in_its_place():
    frame = fused_frame()
    luma, cb, _ = (plane.pixels for plane in show(frame, mode="side-by-side").planes)
    assert luma.shape == (HEIGHT, 2 * WIDTH)
    assert (luma[:, :WIDTH] == 50).all() and np.array_equal(luma[:, WIDTH:], RAMP)
    assert (cb[:, : WIDTH // 2] == COLOUR[0]).all() and (cb[:, WIDTH // 2 :] == 128).all()
    luma, _, cr = (plane.pixels for plane in show(frame, mode="wipe", wipe=0.25).planes)
    assert (luma[:, :15] == 50).all() and (luma[:, 15:17] == 255).all()
    assert np.array_equal(luma[:, 17:], RAMP[:, 17:])
    assert (cr[:, :8] == COLOUR[1]).all() and (cr[:, 8:] == 128).all()


def test_blink_shows_the_cameras_in_turn_by_capture_time():
    view = OutputView(ViewSettings("blink", blink_ns=200))
    frames = [view(replace(fused_frame(), capture_ns=at)) for at in (0, 199, 200, 399, 400)]
    assert [int(frame.planes[0].pixels[0, 0]) for frame in frames] == [50, 50, 0, 0, 50]


def test_an_inset_covers_its_corner_only():
    frame = fused_frame()
    shown = show(frame, mode="picture-in-picture", inset="visible")
    changed = np.argwhere(shown.planes[0].pixels != frame.planes[0].pixels)
    assert changed.min(axis=0).tolist() == [29, 39] and changed.max(axis=0).tolist() == [46, 62]
    assert (shown.planes[0].pixels[30:46, 40:62] == 50).all()
    assert (shown.planes[1].pixels == COLOUR[0]).all(), "the inset has the colours of the visible camera too"


def test_edges_on_thermal_adds_visible_detail_without_noise():
    frame = fused_frame(infrared=np.full((HEIGHT, WIDTH), 100, np.uint8))
    luma = np.full((HEIGHT, WIDTH), 60, np.uint8)
    luma[:, 32:] = 140
    luma[10, 10] += 2  # noise
    seen = replace(frame.pair.visible, planes=(Plane(luma), *frame.planes[1:]))
    edges = show(replace(frame, pair=replace(frame.pair, visible=seen)), mode="edges-on-thermal", palette="white-hot")
    pixels = edges.planes[0].pixels.astype(int)
    assert pixels[:, 32].min() > 120 and pixels[:, 31].max() < 80, "an edge"
    assert (pixels[:, :24] == 100).all() and (pixels[:, 40:] == 100).all(), "and nothing else"


def test_colours_fade_only_where_the_infrared_image_dominates():
    """Fused 120: far from the visible 50, equal to the infrared image at its column 30."""
    shown = show(fused_frame(), colour="desaturate")
    saturation = np.abs(shown.planes[1].pixels.astype(int) - 128)[0]
    assert saturation[15] < 16 and saturation[0] > 30 and saturation[31] > 30
    assert (shown.planes[0].pixels == 120).all(), "luma is not touched"
    same = show(fused_frame(fused=50 + 1), colour="desaturate")
    assert (same.planes[1].pixels == COLOUR[0])[:, 16:].all(), "what is as in the visible image keeps its colours"


def test_outside_the_infrared_view_a_palette_is_black():
    for palette in PALETTES[1:]:
        shown = show(fused_frame(warp=Half()), mode="infrared", palette=palette)
        assert (shown.planes[0].pixels[:, : WIDTH // 2] == 0).all()
        assert all((plane.pixels[:, : WIDTH // 4] == 128).all() for plane in shown.planes[1:])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limited", [False, True])
def test_the_format_does_not_change_while_cameras_come_and_go(mode, limited):
    view = OutputView(ViewSettings(mode, "inferno", "desaturate"))
    whole = fused_frame(limited=limited)
    no_infrared, no_visible = fused_frame(limited=limited, infrared=None), fused_frame(visible=False)
    formats = {
        (made.matrix, *((plane.pixels.shape, plane.value_range) for plane in made.planes))
        for made in map(view, (whole, no_infrared, no_visible, whole))
    }
    assert len(formats) == 1
    assert view(whole).capture_ns == whole.capture_ns and view(whole).state is whole.state
    if limited:
        assert view(whole).planes[0].pixels.max() <= 235 and view(whole).planes[0].pixels.min() >= 16


def test_grey_cameras_stay_grey_unless_a_palette_colours_them():
    grey = fused_frame(chroma=False)
    assert {mode: len(show(grey, mode=mode, palette="white-hot").planes) for mode in MODES} == dict.fromkeys(MODES, 1)
    assert len(show(grey, mode="infrared", palette="ironbow").planes) == 3


def test_odd_sizes_have_whole_chroma():
    odd = fused_frame(infrared=RAMP[:-1, :-1])
    for mode in MODES[1:]:
        luma, cb, cr = (plane.pixels for plane in show(odd, mode=mode, palette="inferno").planes)
        assert cb.shape == cr.shape == ((luma.shape[0] + 1) // 2, (luma.shape[1] + 1) // 2), mode


def test_the_label_is_applied_to_what_is_not_the_fused_frame_itself():
    def label(frame):
        return replace(frame, name="labelled")

    frame = fused_frame()
    assert OutputView(PLAIN, label)(frame) is frame
    assert {OutputView(ViewSettings(mode), label)(frame).name for mode in MODES[1:]} == {"labelled"}
