"""Where the two synthetic cameras see things: the true transform, parallax, positions, values, sizes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.synthetic.backdrop import COUNTS_AT_0C, COUNTS_PER_KELVIN
from fusepipe.pipeline.sources.synthetic.drawing import Canvas, Paint
from fusepipe.pipeline.sources.synthetic.options import parse_options
from fusepipe.pipeline.sources.synthetic.render import Renderer
from fusepipe.pipeline.sources.synthetic.sprites import Sprite, van
from fusepipe.pipeline.sources.synthetic.street import BASE, CAMERA_HEIGHT_M, FOCAL_PX, HORIZON, LAMPS, NEAREST
from fusepipe.pipeline.sources.synthetic.street_objects import Scene, driving, make_scene, standing
from fusepipe.pipeline.sources.synthetic.truth import camera_matrix, synthetic_calibration, true_matrix

AT_HOUSES_M = FOCAL_PX * CAMERA_HEIGHT_M / (BASE - HORIZON)
NEAREST_M = FOCAL_PX * CAMERA_HEIGHT_M / (NEAREST - HORIZON)
SIZES = [((320, 240), (640, 480)), ((161, 121), (333, 251)), ((640, 512), (1280, 720))]


def _draw_ball(canvas: Canvas) -> None:
    canvas.ellipse((0.0, -0.5), 0.5, 0.5, Paint((255, 255, 255), 36.0))


BALL = Sprite("ball", _draw_ball, (-0.5, -1.0, 0.5, 0.0), (-0.6, -1.1, 0.6, 0.1))


def _render(scene: Scene, band: Band, size: tuple[int, int], true_ns: int = 0, query: str = "") -> NDArray[np.float64]:
    options = parse_options(f"synthetic://street?band={band}&size={size[0]}x{size[1]}{query}")
    return Renderer(options, scene).render(true_ns, 0)[0].astype(np.float64)


def _centroid(image: NDArray[np.float64]) -> tuple[float, float]:
    weight = image - np.median(image)
    ys, xs = np.indices(weight.shape)
    return float((weight * xs).sum() / weight.sum()), float((weight * ys).sum() / weight.sum())


def _mapped(point: tuple[float, float], ir_size: tuple[int, int], vis_size: tuple[int, int]) -> NDArray[np.float64]:
    x, y, w = true_matrix(ir_size, vis_size) @ (*point, 1.0)
    return np.array([x / w, y / w])


@pytest.mark.parametrize(("ir_size", "vis_size"), SIZES)
@pytest.mark.parametrize("x", [-160.0, 3.37, 140.61])
def test_a_hot_object_on_the_background_plane_is_where_the_true_matrix_says(
    x: float, ir_size: tuple[int, int], vis_size: tuple[int, int]
) -> None:
    scene = Scene("day", (standing("ball", BALL, x, AT_HOUSES_M),), parallax=9.0, background="")
    infrared = _centroid(_render(scene, Band.INFRARED, ir_size))
    visible = _centroid(_render(scene, Band.VISIBLE, vis_size))
    # Asked for is half a pixel; a tenth of an infrared pixel is what the drawing keeps.
    limit = 0.1 * vis_size[0] / ir_size[0]
    assert np.abs(_mapped(infrared, ir_size, vis_size) - visible).max() < limit
    for band, size, seen in ((Band.INFRARED, ir_size, infrared), (Band.VISIBLE, vis_size, visible)):
        assert np.abs(np.subtract(scene.object_positions(0, band, size)["ball"].centre, seen)).max() < 0.1


@pytest.mark.parametrize("parallax", [8.0, -5.0])
def test_parallax_shifts_the_nearest_objects_by_the_given_amount(parallax: float) -> None:
    ir_size, vis_size = (320, 420), (1280, 1680)  # tall: the nearest ground of a 4:3 image is well inside
    for z_m, part in ((NEAREST_M, 1.0), (2 / (1 / NEAREST_M + 1 / AT_HOUSES_M), 0.5), (AT_HOUSES_M, 0.0)):
        scene = Scene("day", (standing("ball", BALL, 20.0, z_m),), parallax=parallax, background="")
        seen = _mapped(_centroid(_render(scene, Band.INFRARED, ir_size)), ir_size, vis_size)
        visible = _centroid(_render(scene, Band.VISIBLE, vis_size))
        shift = (seen - visible) * 640 / vis_size[0]
        assert shift == pytest.approx([part * parallax, 0.0], abs=0.2)


def test_the_painted_street_itself_obeys_the_true_matrix_and_the_parallax() -> None:
    """Edges of the street in infrared, warped by the truth, fit those in visible best without any shift."""
    ir_size, vis_size = (640, 480), (640, 480)
    scene = make_scene("street", "night", 0.0)
    still = Scene("night", (), 0.0, scene.background)
    lamp = LAMPS[1] + 15
    infrared, visible = _render(still, Band.INFRARED, ir_size), _render(still, Band.VISIBLE, vis_size)
    warped = cv2.warpPerspective(infrared, true_matrix(ir_size, vis_size), vis_size)
    x, y, _ = camera_matrix(Band.VISIBLE, vis_size) @ (lamp, -65.0, 1.0)
    window = np.s_[round(y) - 7 : round(y) + 8, round(x) - 10 : round(x) + 11]
    hot, bright = warped[window], visible[window]
    seen = [_centroid(np.where(part > 0.8 * part.max(), part, 0.0)) for part in (hot, bright)]
    assert seen[0] == pytest.approx(seen[1], abs=0.5)
    leaning = Scene("night", (), 10.0, scene.background)
    shifted = _render(leaning, Band.INFRARED, ir_size)
    x, y, _ = camera_matrix(Band.INFRARED, ir_size) @ (-200, -120, 1)
    wall = np.s_[round(y) : round(y) + 60, round(x) : round(x) + 90]
    assert np.array_equal(shifted[wall], infrared[wall])  # houses do not move, the ground does
    assert not np.array_equal(shifted[-100:], infrared[-100:])


def test_a_moving_thing_is_where_it_is_at_that_time_to_a_fraction_of_a_pixel() -> None:
    size = (640, 480)
    scene = Scene("day", (driving("ball", BALL, 0.0, 20.0, 5.0),), background="")
    options = parse_options("synthetic://street?band=visible&size=640x480")
    renderer = Renderer(options, scene)
    for true_ns in (0, 1_000_000, 17_000_000, 400_000_000):
        seen = _centroid(renderer.render(true_ns, 0)[0].astype(np.float64))
        box = scene.object_positions(true_ns, Band.VISIBLE, size)["ball"]
        assert box.centre == pytest.approx(seen, abs=0.08)
    metre = scene.placements(0, Band.VISIBLE)[0].metre
    moved = [scene.object_positions(t, Band.VISIBLE, size)["ball"].centre[0] for t in (0, 400_000_000)]
    assert moved[1] - moved[0] == pytest.approx(5.0 * 0.4 * metre)


@pytest.mark.parametrize("light", ["day", "night"])
def test_each_band_shows_objects_the_other_does_not(light: str) -> None:
    scene = make_scene("street", "night" if light == "night" else "day")
    vis_size, ir_size, at_ns = (640, 480), (320, 240), 2_000_000_000
    visible = _render(scene, Band.VISIBLE, vis_size, at_ns, f"&light={light}")
    infrared = _render(scene, Band.INFRARED, ir_size, at_ns, f"&light={light}")

    def without(name: str) -> Scene:
        return Scene(scene.light, tuple(m for m in scene.movers if m.name != name), 0.0, scene.background)

    hidden_vis = _render(without("hidden"), Band.VISIBLE, vis_size, at_ns, f"&light={light}")
    hidden_ir = _render(without("hidden"), Band.INFRARED, ir_size, at_ns, f"&light={light}")
    assert np.abs(infrared - hidden_ir).max() > 50  # the crouching person is plain to the thermal camera
    assert (np.abs(visible - hidden_vis) > 30).sum() < 40  # and a few pixels at most to the eye
    matrix = camera_matrix(Band.VISIBLE, vis_size)
    x, y, _ = matrix @ (-86, -10, 1)
    sign = visible[round(y) - 4 : round(y) + 4, round(x) : round(x) + 60]
    x, y, _ = camera_matrix(Band.INFRARED, ir_size) @ (-86, -10, 1)
    same = infrared[round(y) - 1 : round(y) + 2, round(x) + 2 : round(x) + 28]
    assert sign.std() > 15 and same.std() < 4


def test_radiometric_counts_and_levels_are_the_same_temperatures() -> None:
    scene = make_scene("street", "day")
    levels = _render(scene, Band.INFRARED, (320, 240))
    counts = _render(scene, Band.INFRARED, (320, 240), query="&depth=16")
    assert counts.min() > COUNTS_AT_0C - 10 * COUNTS_PER_KELVIN
    assert counts.max() < COUNTS_AT_0C + 45 * COUNTS_PER_KELVIN < 2**14
    assert len(np.unique(counts)) > 400
    celsius = (counts - COUNTS_AT_0C) / COUNTS_PER_KELVIN
    expected = np.clip((celsius + 6) / 42 * 255, 0, 255)
    assert np.percentile(np.abs(levels - expected), 99.5) < 2.5


@pytest.mark.parametrize("band", list(Band))
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (333, 251), (48, 640), (900, 20), (1921, 1081)])
def test_odd_small_and_long_sizes_are_drawn(band: Band, size: tuple[int, int]) -> None:
    options = parse_options(f"synthetic://street?band={band}&size={size[0]}x{size[1]}&light=night&parallax=20")
    planes = Renderer(options, make_scene("street", "night", 20.0)).render(3_000_000_000, 0)
    assert planes[0].shape == (size[1], size[0])
    for chroma in planes[1:]:
        assert chroma.shape == ((size[1] + 1) // 2, (size[0] + 1) // 2)
    assert len(planes) == (3 if band is Band.VISIBLE else 1)


def test_chroma_planes_lie_over_their_luma() -> None:
    """A red ball: where the chroma plane says red, enlarged, is where the luma plane shows it."""

    def red(canvas: Canvas) -> None:
        canvas.ellipse((0.0, -0.5), 0.5, 0.5, Paint((255, 0, 0), 36.0))

    sprite = Sprite("red", red, BALL.body, BALL.drawn)
    scene = Scene("day", (standing("red", sprite, 10.3, 20.0),), background="")
    for size in ("640x480", "333x251"):
        y, _, cr = Renderer(parse_options(f"synthetic://street?band=visible&size={size}"), scene).render(0, 0)
        chroma = np.array(_centroid(cr.astype(np.float64))) * 2 + 0.5
        assert chroma == pytest.approx(_centroid(y.astype(np.float64)), abs=0.15)


def test_the_calibration_of_the_scene_is_the_true_matrix() -> None:
    matrix = synthetic_calibration("synthetic://street", (320, 240), (640, 480))
    assert np.array_equal(matrix, true_matrix((320, 240), (640, 480)))
    assert matrix.shape == (3, 3) and matrix.dtype == np.float64
    # Neither a mere scaling nor a shift: it turns, too.
    assert abs(matrix[0, 1]) > 0.02 and abs(matrix[0, 2]) > 5
    with pytest.raises(UsageError, match="did you mean 'street'"):
        synthetic_calibration("synthetic://stret", (320, 240), (640, 480))
    with pytest.raises(UsageError, match="above 0"):
        synthetic_calibration("synthetic://street", (0, 240), (640, 480))


def test_the_lettering_of_the_van_reads_from_left_to_right_whichever_way_it_drives() -> None:
    """Objects that go left are drawn mirrored; the lettering must not be."""
    letters = []
    for mirrored in (False, True):
        sprite = van("van", (226, 226, 220), mirrored=mirrored)
        canvas = Canvas(Band.VISIBLE, "day", *sprite.drawn, 60.0)
        sprite.draw(canvas)
        shown = canvas.pixels[0, :, ::-1] if mirrored else canvas.pixels[0]
        dark = np.where(shown < 120, 1.0, 0.0)  # letters of (40, 74, 120) on light metal
        left, top = (canvas.left if not mirrored else -(canvas.left + canvas.size[0] / canvas.scale)), canvas.top
        x0, y0 = ((0.1 if mirrored else -2.3) - left) * canvas.scale, (-1.8 - top) * canvas.scale
        part = dark[int(y0) : int(y0 + 0.7 * canvas.scale), int(x0) : int(x0 + 2.2 * canvas.scale)]
        columns = np.flatnonzero(part.any(axis=0))
        letters.append(part[:, columns[0] : columns[0] + 60])
    same = float((letters[0] == letters[1]).mean())
    assert same > 0.9 > float((letters[0] == letters[1][:, ::-1]).mean())


def test_the_van_of_the_street_is_lettered_for_the_way_it_drives() -> None:
    (placed,) = [p for p in make_scene("street", "day").placements(0, Band.VISIBLE) if p.name == "van"]
    assert placed.facing == -1 and placed.sprite.draw.keywords["mirrored"]  # type: ignore[attr-defined]
