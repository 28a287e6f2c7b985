"""What is written into an image: time, state, temperatures, a scale bar."""

import time
from dataclasses import replace

import numpy as np
import pytest
from helpers.view_frames import COLOUR, HEIGHT, WIDTH, fused_frame

from fusepipe.core.frames import Plane
from fusepipe.core.radiometry import PlanckConstants, Radiometry
from fusepipe.core.view_settings import AnnotationSettings, ViewSettings
from fusepipe.pipeline.views import annotations, ink
from fusepipe.pipeline.views.annotations import Thermal, counts_at, hottest, time_text, value_text
from fusepipe.pipeline.views.output_view import OutputView

SIZE = (240, 320)
HUNDREDTHS = Radiometry("kelvin", 0.01)


def street():
    """27 °C, with 127 °C at row 100, column 40; the luma is that of no linear tone curve."""
    counts = np.full(SIZE, 30015, np.uint16)
    counts[100, 40] = 40015
    luma = np.where(counts > 30015, 255, 64).astype(np.uint8)
    frame = fused_frame(infrared=luma)
    warm = replace(frame.pair.infrared, planes=(Plane(counts, 16),), radiometry=HUNDREDTHS)
    return replace(frame, pair=replace(frame.pair, infrared=warm, registered=warm.luma))


@pytest.fixture
def written(monkeypatch):
    """The lines that are drawn, in order, with their positions."""
    lines = []
    draw = ink.Ink.text

    def text(self, line, x, y, anchor="left"):
        lines.append((line, x, y))
        draw(self, line, x, y, anchor)

    monkeypatch.setattr(annotations.Ink, "text", text)
    return lines


def drawn(frame, mode="infrared", palette="inferno", live=False, **chosen):
    view = OutputView(ViewSettings(mode, palette, annotations=AnnotationSettings(**chosen)), live=live)
    return view(frame)


def test_spots_and_boxes_have_the_temperatures_of_the_counts(written):
    boxes = ((0.0, 0.25, 0.25, 0.25), (0.5, 0.5, 0.25, 0.25))
    drawn(street(), spots=((0.9, 0.9), (40.5 / 320, 100.5 / 240)), boxes=boxes, hottest=True)
    mean = 27 + 100 / (80 * 60)
    assert [line for line, *_ in written] == [
        "27.0 C",
        "127.0 C",
        "127.0 C",
        f"min 27.0 C  mean {mean:.1f} C  max 127.0 C",
        "min 27.0 C  mean 27.0 C  max 27.0 C",
    ]


def test_values_have_the_unit_that_is_asked_for_and_counts_without_a_radiometry():
    shown = [value_text(30015, HUNDREDTHS, unit) for unit in ("celsius", "kelvin", "fahrenheit")]
    assert shown[::2] == ["27.0 C", "80.6 F"] and shown[1] in ("300.1 K", "300.2 K")
    assert value_text(30000, None, "celsius") == "30000"
    planck = Radiometry("kelvin", planck=PlanckConstants(15000, 1400, 1, -7000, 0.01))
    assert value_text(1, planck, "celsius") == "-", "no temperature"


def test_nothing_is_read_where_the_infrared_camera_does_not_see(written):
    outside = np.zeros(SIZE, np.uint8)
    outside[:, :160] = 255
    frame = street()

    class Right:
        version, scale, valid = "right", 1.0, 255 - outside

    drawn(replace(frame, pair=replace(frame.pair, warp=Right())), spots=((0.1, 0.5),), hottest=True)
    assert written[0][0] == "-" and written[1][0] == "27.0 C"
    thermal = Thermal(frame.pair.registered.pixels, frame.pair.luma.pixels, HUNDREDTHS, outside)
    assert hottest(thermal) == (160, 0) and hottest(replace(thermal, outside=None)) == (40, 100)


def test_a_cross_leaves_its_pixel_and_the_rest_of_the_image_as_they_are():
    frame = street()
    plain = OutputView(ViewSettings("visible"))(frame).planes
    marked = drawn(frame, "visible", spots=((0.5, 0.5),)).planes
    changed = plain[0].pixels != marked[0].pixels
    assert not changed[120, 160] and changed[118:122, 150:170].any()
    assert not changed[:100].any() and not changed[160:].any() and not changed[:, :140].any()
    assert (marked[1].pixels[:50] == COLOUR[0]).all()


def test_time_and_state_are_written_in_the_corner(written):
    frame = replace(street(), capture_ns=3_725_250_000_000)
    drawn(frame, "fused", time=True, state=True)
    assert written == [("1:02:05.250  FUSED", 0, written[0][2])] and written[0][2] > 200
    captured_ns = time.monotonic_ns()
    shown = time_text(captured_ns, live=True, wall_ns=lambda: 1_800_000_000_000_000_000 + time.monotonic_ns())
    assert shown.startswith("2027-01-") and shown.endswith(" UTC")


def test_the_temperatures_of_a_scale_bar_are_those_of_its_levels(written):
    shown = drawn(street(), scale_bar=True)
    assert [line for line, *_ in written] == ["127.0 C", "27.0 C"], "only levels that the image has"
    thermal = Thermal(street().pair.registered.pixels, street().pair.luma.pixels, HUNDREDTHS, None)
    assert counts_at(64, thermal) == 30015 and counts_at(128, thermal) is None
    bar = shown.planes[0].pixels[62:176, 308:312]
    assert bar[0].min() > 180 and bar[-1].max() < 60 and (np.diff(bar[:, 2].astype(int)) <= 0).all()
    assert drawn(street(), "fused", scale_bar=True).planes[0].pixels.tolist() == street().planes[0].pixels.tolist()


def test_annotations_lie_on_the_infrared_half_of_both_side_by_side(written):
    drawn(street(), "side-by-side", spots=((0.5, 0.5),))
    assert written[0][1] > 320 + 160


def test_text_of_any_length_fits_into_a_small_image():
    small = fused_frame()
    shown = drawn(small, time=True, state=True, hottest=True, scale_bar=True, boxes=((0.0, 0.0, 1.0, 1.0),))
    assert shown.planes[0].pixels.shape == (HEIGHT, WIDTH)
