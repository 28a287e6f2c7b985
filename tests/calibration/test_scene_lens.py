"""The infrared lens out of the scene: found where there is one, not where there is none, and carried to the warp."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from fusepipe.calibration.file.exchange import opencv_text
from fusepipe.calibration.file.model import Calibration, make_calibration
from fusepipe.calibration.file.storage import load_calibration, save_calibration
from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3
from fusepipe.calibration.scene.block_matching import VisibleFields
from fusepipe.calibration.scene.lens_estimation import Bent, bending, plain_lens, reaches_out, with_lens
from fusepipe.calibration.scene.local_matches import Matches
from fusepipe.calibration.scene.residuals import measure_residuals
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.calibration.warp import build_warp
from fusepipe.cli import cli
from fusepipe.core.errors import ConfigError, UsageError
from fusepipe.core.frames import Band, Luma8
from fusepipe.pipeline.sources.synthetic.source import SyntheticSource
from fusepipe.pipeline.sources.synthetic.truth import true_matrix
from fusepipe.workflows.calibrate_scene import calibrate_scene, lens_note

WIDE, IR, VIS = (640, 480), (320, 240), (640, 480)
# the camera with the lens sees 85 % of what the street's infrared camera does, so that its corners have an image
CUT = np.array([[1.7, 0.0, 319.5 - 1.7 * 159.5], [0.0, 1.7, 239.5 - 1.7 * 119.5], [0.0, 0.0, 1.0]])
MATRIX = true_matrix(WIDE, VIS) @ CUT
EDGE = np.array([[0, 0], [319, 0], [0, 239], [319, 239], [160, 0], [0, 120], [319, 120], [160, 239]], np.float64)


def barrel(first: float) -> Lens:
    return Lens(IR, 320.0, 320.0, 159.5, 119.5, (first, 0.0, 0.0, 0.0))


def frames(band: Band, size: tuple[int, int]) -> list[Luma8]:
    url = f"synthetic://street?size={size[0]}x{size[1]}&duration=16s&fps=0.5&noise=1"
    source = SyntheticSource(url, band)
    source.open()
    made = [np.asarray(frame.luma.pixels, np.uint8) for frame in source.frames(threading.Event())]
    source.close()
    return made


def ideal(lens: Lens, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return lens.rays(points) * (lens.fx, lens.fy) + (lens.cx, lens.cy)


def seen_through(lens: Lens, image: Luma8) -> Luma8:
    y, x = np.mgrid[0 : IR[1], 0 : IR[0]].astype(np.float64)
    free = ideal(lens, np.stack([x.ravel(), y.ravel()], axis=1))
    places = cv2.perspectiveTransform(free[None], CUT)[0].astype(np.float32).reshape(IR[1], IR[0], 2)
    smooth = cv2.GaussianBlur(image, (0, 0), 0.7)
    return np.asarray(cv2.remap(smooth, places[..., 0], places[..., 1], cv2.INTER_LINEAR), np.uint8)


@pytest.fixture(scope="module")
def street() -> tuple[list[Luma8], list[Luma8]]:
    return frames(Band.INFRARED, WIDE), frames(Band.VISIBLE, VIS)


def folders(place: Path, street: tuple[list[Luma8], list[Luma8]], lens: Lens) -> list[str]:
    for name in ("ir", "vis"):
        (place / name).mkdir()
    for index, (infrared, visible) in enumerate(zip(*street, strict=True)):
        assert cv2.imwrite(str(place / "ir" / f"{index}.png"), seen_through(lens, infrared))
        assert cv2.imwrite(str(place / "vis" / f"{index}.png"), visible)
    return [str(place / "ir"), str(place / "vis")]


def error_px(calibration: Calibration, lens: Lens) -> NDArray[np.float64]:
    """How far the places of the infrared image's edge are off in the visible one."""
    found = calibration.infrared_lens() or plain_lens(IR)
    there = cv2.perspectiveTransform(ideal(found, EDGE)[None], calibration.matrix3())[0]
    return np.asarray(np.hypot(*(there - cv2.perspectiveTransform(ideal(lens, EDGE)[None], MATRIX)[0]).T), np.float64)


@pytest.mark.slow
def test_a_lens_is_found_and_the_file_the_check_and_the_warp_carry_it(
    street: tuple[list[Luma8], list[Luma8]], tmp_path: Path
) -> None:
    lens = barrel(-0.08)
    inputs = folders(tmp_path, street, lens)
    out = tmp_path / "bent.yaml"
    ran = CliRunner().invoke(cli, ["calibrate", "scene", *inputs, "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    assert "homography+lens" in ran.stdout
    calibration = load_calibration(out)
    assert calibration.kind == "homography+lens"
    errors = error_px(calibration, lens)
    assert errors[:4].mean() < 0.5 and errors.mean() < 0.5, errors
    # a straight map is off by pixels at the corners
    straight = make_calibration("homography", IR, VIS, calibration.matrix)
    assert error_px(straight, lens)[:4].mean() > 4.0
    verdicts = []
    for kind in (calibration, straight):
        path = tmp_path / "check.yaml"
        save_calibration(kind, path, overwrite=True)
        ran = CliRunner().invoke(cli, ["calibrate", "check", str(path), *inputs, "--json", "--pairs", "4"])
        assert ran.exit_code == 0, ran.output
        verdicts.append(json.loads(ran.stdout))
    assert verdicts[0]["verdict"] == "good" and verdicts[0]["median_px"] < 0.7 * verdicts[1]["median_px"]


@pytest.mark.slow
def test_without_a_lens_none_is_taken(street: tuple[list[Luma8], list[Luma8]], tmp_path: Path) -> None:
    lens = plain_lens(IR)
    out = tmp_path / "straight.yaml"
    ran = CliRunner().invoke(cli, ["calibrate", "scene", *folders(tmp_path, street, lens), "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    calibration = load_calibration(out)
    assert calibration.kind in ("affine", "homography") and calibration.infrared.lens is None
    assert error_px(calibration, lens)[:4].mean() < 0.75


def pairs_of(street: tuple[list[Luma8], list[Luma8]], lens: Lens, count: int) -> list[ScenePair]:
    return [ScenePair(seen_through(lens, ir), vis) for ir, vis in list(zip(*street, strict=True))[:count]]


@pytest.mark.slow
def test_two_pairs_give_the_lens_and_one_says_that_it_does_not(street: tuple[list[Luma8], list[Luma8]]) -> None:
    lens = barrel(-0.08)
    result, calibration = calibrate_scene(pairs_of(street, lens, 2))
    assert calibration is not None and calibration.kind == "homography+lens"
    assert error_px(calibration, lens)[:4].mean() < 1.0
    assert lens_note(result) == ""
    result, calibration = calibrate_scene(pairs_of(street, lens, 1))
    assert calibration is not None and result.lens is None
    assert error_px(calibration, lens)[:4].mean() > 3.0
    note = lens_note(result)
    assert "not known from one pair" in note
    assert "2 pairs or more with edges out to the corners" in note
    result, calibration = calibrate_scene(pairs_of(street, plain_lens(IR), 2))
    assert calibration is not None and result.lens is None and lens_note(result) == ""


@pytest.mark.slow
def test_the_check_blames_the_lens_and_not_the_bracket(street: tuple[list[Luma8], list[Luma8]]) -> None:
    bent = measure_residuals(pairs_of(street, barrel(-0.08), 2), MATRIX)
    assert "pattern of a lens, a barrel distortion" in bent.verdict[1] and "small movement" not in bent.verdict[1]
    # at the corners of the infrared image, 0.625 focal lengths from its centre
    assert bent.bends is not None and bent.bends.bend == pytest.approx(-0.08 * 0.625**2, abs=0.012)
    assert bent.quality.edge is not None and bent.quality.edge < bent.quality.near - 0.04
    straight = measure_residuals(pairs_of(street, plain_lens(IR), 2), MATRIX)
    assert straight.verdict[0] == "good" and "lens" not in straight.verdict[1]


def test_the_warp_takes_each_pixel_from_where_the_lens_put_it() -> None:
    lens = barrel(-0.12)
    calibration = make_calibration("homography+lens", IR, VIS, MATRIX, infrared_lens=lens)
    for ir, vis in ((IR, VIS), ((160, 120), (320, 240))):
        warp = build_warp(calibration, ir, vis)
        assert warp is not None and warp.valid is not None
        points = EDGE * 0.9 + (16, 12)  # within the image
        there = cv2.perspectiveTransform(ideal(lens, points)[None], MATRIX)[0]
        at = np.rint((there + 0.5) * (vis[0] / VIS[0]) - 0.5).astype(int)
        exact = (at + 0.5) * (VIS[0] / vis[0]) - 0.5
        rays = (cv2.perspectiveTransform(exact[None], np.linalg.inv(MATRIX))[0] - (159.5, 119.5)) / 320.0
        wanted = (lens.project(rays) + 0.5) * (ir[0] / IR[0]) - 0.5
        assert warp.sampling_grid[at[:, 1], at[:, 0]] == pytest.approx(wanted, abs=0.01)
        assert (warp.valid[at[:, 1], at[:, 0]] == 255).all()
        assert warp.valid[0, 0] == 0
    moved = build_warp(calibration, IR, VIS, adjust=np.array([[1.0, 0, 3.0], [0, 1, 0], [0, 0, 1]]))
    still = build_warp(calibration, IR, VIS)
    assert moved is not None and still is not None
    assert moved.sampling_grid[240, 323] == pytest.approx(still.sampling_grid[240, 320], abs=1e-3)


def test_displacement_grows_with_the_distortion() -> None:
    """Against the lens itself, a little more bent."""
    small = (512, 384)
    to_small: Matrix3 = np.array([[0.8, 0, -0.1], [0, 0.8, -0.1], [0, 0, 1]])
    now, more = barrel(-0.05), barrel(-0.0501)
    places = cv2.perspectiveTransform(ideal(now, EDGE)[None], to_small @ MATRIX)[0]
    after = cv2.perspectiveTransform(ideal(more, EDGE)[None], to_small @ MATRIX)[0]
    moved = bending(Bent(MATRIX, now), small, VIS)(places)
    assert moved * -1e-4 == pytest.approx(after - places, abs=2e-4)
    assert np.abs(moved).max() > 10


def test_a_lens_needs_several_pairs_and_edges_out_to_the_corners() -> None:
    image = np.zeros((240, 320), np.uint8)
    pairs = [ScenePair(image, image)] * 2
    assert with_lens(pairs, np.eye(3), VisibleFields(pairs)) is None
    bent = Bent(MATRIX, plain_lens(IR))
    y, x = np.mgrid[24:360:24, 24:490:24].astype(np.float64)
    centres = np.stack([x.ravel(), y.ravel()], axis=1)

    def blocks(kept: NDArray[np.bool_]) -> Matches:
        return Matches(centres[kept], np.zeros((int(kept.sum()), 17, 17), np.float32), (512, 384))

    everywhere = np.ones(len(centres), np.bool_)
    middle = np.hypot(centres[:, 0] - 256, centres[:, 1] - 192) < 150
    assert reaches_out(blocks(everywhere), bent, VIS)
    assert not reaches_out(blocks(middle), bent, VIS)
    assert not reaches_out(blocks(centres[:, 1] < 180), bent, VIS), "the upper half only"


def test_the_file_says_what_is_wrong_with_a_lens(tmp_path: Path) -> None:
    calibration = make_calibration("homography+lens", IR, VIS, MATRIX, infrared_lens=barrel(-0.1))
    path = tmp_path / "a.yaml"
    save_calibration(calibration, path)
    assert load_calibration(path) == calibration
    text = path.read_text()
    for was, instead, message in (
        ("kind: homography+lens", "kind: homography", "kind homography has no lens; remove infrared.lens"),
        ("distortion:", "distorsion:", "distortion"),
    ):
        assert was in text
        path.write_text(text.replace(was, instead))
        with pytest.raises(ConfigError, match=message):
            load_calibration(path)
    with pytest.raises(UsageError, match=r"kind homography\+lens needs infrared.lens"):
        make_calibration("homography+lens", IR, VIS, MATRIX)
    with pytest.raises(UsageError, match=r"which a calibration of kind homography\+lens does not have"):
        opencv_text(calibration)
