"""Hot areas and isotherms: what is marked, and what stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.view_frames import COLOUR, FUSED, HEIGHT, RAMP, WIDTH, fused_frame

from fusepipe.calibration.warp import size_warp
from fusepipe.core.frames import Plane, enlarged
from fusepipe.core.radiometry import Radiometry
from fusepipe.core.view_settings import MODES, HotSettings, ViewSettings
from fusepipe.pipeline.stages.registration import Registration
from fusepipe.pipeline.views import hot_areas
from fusepipe.pipeline.views.hot_areas import HotLimit
from fusepipe.pipeline.views.output_view import OutputView
from fusepipe.pipeline.views.panels import Panel, PlaneFormat

FULL = PlaneFormat("full", "bt601", True)
TENTHS_K = Radiometry("kelvin", 0.1)
SPOT = (slice(20, 26), slice(30, 36))  # rows, columns


def spot_frame(kelvin=350.0, radiometry=TENTHS_K, *, fused=None):
    """16-bit counts of 300 K with a hot spot."""
    counts = np.full((HEIGHT, WIDTH), 3000, np.uint16)
    counts[SPOT] = round(kelvin * 10)
    frame = fused_frame()
    warm = replace(frame.pair.infrared, planes=(Plane(counts, 16),), radiometry=radiometry)
    pair = replace(frame.pair, infrared=warm, registered=warm.luma)
    planes = frame.planes if fused is None else (Plane(fused), *frame.planes[1:])
    return replace(frame, pair=pair, planes=planes)


def shown(frame, **settings):
    return [plane.pixels.astype(int) for plane in OutputView(ViewSettings(**settings))(frame).planes]


def spot_mask(grow=0):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20 - grow : 26 + grow, 30 - grow : 36 + grow] = True
    return mask


@pytest.mark.parametrize("style", ["outline", "tint"])
def test_marks_change_nothing_outside_of_them_and_hide_nothing_inside(style):
    fused = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    frame = spot_frame(fused=fused)
    luma, cb, cr = shown(frame, hot=HotSettings(340.0, style=style))
    assert (luma == fused)[spot_mask()].all(), "the detail of what is hot stays"
    assert (luma == fused)[~spot_mask(1)].all()
    half = spot_mask(1).reshape(HEIGHT // 2, 2, WIDTH // 2, 2).any(axis=(1, 3))
    assert (cb == COLOUR[0])[~half].all() and (cr == COLOUR[1])[~half].all(), "chroma differs by 0 outside"
    assert (cr != COLOUR[1])[half].any()
    if style == "outline":
        ring = spot_mask(1) & ~spot_mask()
        assert np.corrcoef(luma[ring], fused[ring])[0, 1] > 0.99, "half of what is under the line stays"
    else:
        assert (luma == fused).all(), "a tint changes no luma at all"


def test_the_chroma_of_full_size_images_keeps_its_size():
    frame = spot_frame()
    full = [np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH), np.uint8) for i in (1, 2)]
    frame = replace(frame, planes=(frame.planes[0], *map(Plane, full)))
    _, cb, cr = shown(frame, hot=HotSettings(340.0, style="tint"))
    assert (cb == full[0])[~spot_mask()].all() and (cr == full[1])[~spot_mask()].all()
    assert (cb != full[0])[spot_mask()].mean() > 0.9


def test_small_hot_objects_keep_their_counts_where_the_network_takes_a_smaller_image():
    counts = np.full((28, 37), 3000, np.uint16)
    for x in range(4, 32, 7):  # somewhere between the pixels of the smaller image
        counts[13:15, x : x + 2] = 3500
    frame = fused_frame()
    warm = replace(frame.pair.infrared, planes=(Plane(counts, 16),))
    registration = Registration(size_warp, (WIDTH, HEIGHT), max_visible_levels=1)
    pair = registration(replace(frame.pair, infrared=warm))
    found = hot_areas.registered_counts(replace(frame, pair=pair))
    whole = size_warp((37, 28), (WIDTH, HEIGHT)).apply(counts)
    smaller = enlarged(pair.registered.pixels, pair.visible_levels, smooth=True)
    assert pair.visible_levels == 1 and whole.max() > smaller.max() + 30, whole.max()
    np.testing.assert_allclose(found.astype(int)[2:-2, 2:-2], whole.astype(int)[2:-2, 2:-2], atol=1)
    moved = hot_areas.registered_counts(replace(frame, pair=replace(pair, moved_locally=True)))
    np.testing.assert_array_equal(moved, smaller)


def test_temperatures_come_from_the_counts_and_need_a_radiometry():
    unmarked = shown(spot_frame(), mode="visible")
    for kelvin, marked in ((349.9, True), (350.0, True), (350.1, False), (9000.0, False)):
        differs = any(
            (one != other).any()
            for one, other in zip(shown(spot_frame(), mode="visible", hot=HotSettings(kelvin)), unmarked, strict=True)
        )
        assert differs is marked, kelvin
    for unknown in (None, Radiometry()):
        frame = spot_frame(radiometry=unknown)
        luma, *_ = shown(frame, hot=HotSettings(340.0))
        assert (luma == FUSED).all()
        luma, *_ = shown(frame, hot=HotSettings(percentile=99.0))
        assert (luma != FUSED).any(), "a percentile needs none"


def test_one_saturated_pixel_is_marked():
    counts = np.full((HEIGHT, WIDTH), 3000, np.uint16)
    counts[10, 20] = 65535
    area = hot_areas.area_at(counts, 10_000.0, None)
    assert np.argwhere(area).tolist() == [[10, 20]]
    ring = hot_areas.outlined(Panel(np.zeros_like(area)), area, FULL, "white-hot").luma
    assert np.argwhere(ring).tolist() == [[y, x] for y in (9, 10, 11) for x in (19, 20, 21) if (y, x) != (10, 20)]


def test_nothing_is_hot_outside_the_infrared_view():
    outside = np.zeros((HEIGHT, WIDTH), np.uint8)
    outside[:, 32:] = 255
    assert not hot_areas.area_at(RAMP, 100.0, outside)[:, 32:].any()
    limit = HotLimit(HotSettings(percentile=90.0))(RAMP, outside, fused_frame())
    assert limit == pytest.approx(np.percentile(RAMP[::4, :32:4], 90))


def test_the_limit_of_a_percentile_follows_the_scene_within_seconds():
    limit, frame = HotLimit(HotSettings(percentile=50.0)), fused_frame()
    levels = [np.full((8, 8), level, np.uint8) for level in (100, 200)]
    assert limit(levels[0], None, frame) == 100
    seconds = [limit(levels[1], None, replace(frame, capture_ns=at * 10**8)) for at in range(1, 51)]
    assert seconds[0] == pytest.approx(100 + 100 * (1 - np.exp(-0.1)))
    assert seconds[9] == pytest.approx(163.2, abs=0.1) and seconds[-1] > 199
    assert limit(levels[0], None, replace(frame, capture_ns=0)) == 100, "a recording that begins again"


def test_tints_keep_the_order_of_brightness_and_are_coloured():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    tint = hot_areas.tinted(Panel(ramp), np.full((4, 256), 255, np.uint8), FULL)
    assert tint.luma is ramp
    red = tint.chroma[1].astype(int)[0]
    assert (red[10:100] > 140).all() and (tint.chroma[0][0, 100:] < 128).all(), "red, then yellow"


def test_isotherms_are_lines_at_their_temperatures():
    counts = np.tile(np.linspace(2900, 3530, WIDTH).astype(np.uint16), (HEIGHT, 1))  # 10 a column
    frame = spot_frame()
    frame = replace(frame, pair=replace(frame.pair, registered=Plane(counts, 16)))
    luma, *_ = shown(frame, isotherms_k=(300.0, 320.0))
    columns = np.flatnonzero((luma != FUSED).any(axis=0))
    assert columns.tolist() == [10, 30], "one pixel wide, at 3000 and 3200"
    assert (luma[:, columns] != FUSED).all()
    assert len({tuple(luma[:, column]) for column in columns}) == 2, "of different colours"


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_marks_hot_areas(mode):
    frame = replace(spot_frame(), capture_ns=500_000_000)  # blink: the infrared image
    plain = shown(frame, mode=mode, palette="inferno")
    marked = shown(frame, mode=mode, palette="inferno", hot=HotSettings(340.0))
    assert (plain[0] != marked[0]).sum() >= 28 / 9
