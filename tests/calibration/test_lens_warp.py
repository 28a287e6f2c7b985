"""Warps through lenses at a plane's distance, moved while running, corrected; and drift from the first sign."""

from __future__ import annotations

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fusepipe.calibration.aligner import Aligner, Alignment
from fusepipe.calibration.board.stereo import Pose
from fusepipe.calibration.drift import LOST, SUSPECT, Corrector, DriftMeter, DriftMonitor, DriftState, Measurement
from fusepipe.calibration.file.model import make_calibration, make_stereo_calibration
from fusepipe.calibration.file.storage import calibration_text, load_calibration, save_calibration
from fusepipe.calibration.lens import EXACT_PX, Lens, radius_limit
from fusepipe.calibration.scene.residuals import by_distance
from fusepipe.calibration.warp import LensWarp, RemapWarp, build_warp
from fusepipe.core.errors import ConfigError, UsageError
from fusepipe.core.frames import Band, FramePair, PairState
from fusepipe.pipeline.sources.synthetic.source import SyntheticSource
from fusepipe.pipeline.sources.synthetic.truth import true_matrix
from fusepipe.pipeline.stages.registration import Registration
from fusepipe.pipeline.testing import frame

INFRARED = Lens((160, 120), 150.0, 151.0, 80.0, 60.0, (-0.2, 0.05, 0.001, 0.0, 0.0))
VISIBLE = Lens((320, 240), 290.0, 290.0, 161.0, 119.0, (-0.1, 0.02, 0.0, 0.0, 0.0))
POSE = Pose(np.asarray(cv2.Rodrigues(np.array([0.02, -0.03, 0.01]))[0], np.float64), np.array([0.08, -0.01, 0.02]))
STEREO = make_stereo_calibration(INFRARED, VISIBLE, POSE, 5.0)


@pytest.mark.parametrize("model", ["pinhole", "fisheye"])
def test_a_lens_projects_what_it_frees(model: str) -> None:
    d = (-0.25, 0.08, 0.001, -0.002, 0.0) if model == "pinhole" else (0.05, -0.01, 0.002, 0.0)
    lens = Lens((640, 480), 420.0, 422.0, 318.0, 242.0, d, model)  # type: ignore[arg-type]
    y, x = np.mgrid[0:480:40, 0:640:40]
    pixels = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)
    assert lens.project(lens.rays(pixels)) == pytest.approx(pixels, abs=2e-3)
    half = lens.at((320, 240))
    assert half.project(lens.rays(pixels)) == pytest.approx((pixels + 0.5) / 2 - 0.5, abs=2e-3)


WIDE = (
    Lens((640, 480), 330.0, 330.0, 319.5, 239.5, (-0.35, 0.05, 0.001, -0.0005, 0.0)),
    Lens((640, 480), 230.0, 230.0, 319.5, 239.5, (-0.08, -0.05, -0.02, 0.01), "fisheye"),
)


@pytest.mark.parametrize("lens", WIDE, ids=lambda lens: lens.model)
def test_the_rays_of_a_wide_lens_are_found_up_to_the_end_of_its_range(lens: Lens) -> None:
    """There the distorted radius hardly grows with the ray's, so that the search converges slowly."""
    radius = np.linspace(0.5, 0.99, 50) * radius_limit(lens)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rays = np.stack([np.outer(radius, np.cos(angle)).ravel(), np.outer(radius, np.sin(angle)).ravel()], axis=1)
    pixels = lens.project(rays)
    seen = ((pixels > 0) & (pixels < (639, 479))).all(axis=1)
    assert np.count_nonzero(seen) > 100
    found = lens.rays(pixels[seen])
    assert float(np.abs(lens.project(found) - pixels[seen]).max()) < EXACT_PX
    assert float(np.hypot(*found.T).max()) < radius_limit(lens)


@pytest.mark.parametrize("distance_m", [2.0, 5.0, 40.0])
def test_points_of_the_plane_land_where_both_cameras_see_them(distance_m: float) -> None:
    warp = build_warp(STEREO, (160, 120), (320, 240), distance_m)
    assert isinstance(warp, LensWarp)
    # the infrared image holds its own coordinates, so the warped one says where each pixel came from
    x = warp.apply(np.tile(np.arange(160, dtype=np.uint16) * 100, (120, 1)))
    y = warp.apply(np.tile((np.arange(120, dtype=np.uint16) * 100)[:, None], (1, 160)))
    random = np.random.default_rng(1)
    checked = 0
    for u, v in random.integers((20, 20), (300, 220), (60, 2)):
        if warp.valid is not None and warp.valid[v, u] == 0:
            continue
        ray = VISIBLE.rays([(u, v)])[0]
        point = np.array([*ray, 1.0]) * distance_m
        there = POSE.rotation.T @ (point - POSE.translation_m)
        place = INFRARED.project([there[:2] / there[2]])[0]
        assert (x[v, u] / 100, y[v, u] / 100) == pytest.approx(place, abs=0.05)
        checked += 1
    assert checked > 20


def test_without_distortion_it_is_the_planes_homography() -> None:
    plain = make_stereo_calibration(replace(INFRARED, distortion=()), replace(VISIBLE, distortion=()), POSE, 5.0)
    lens = build_warp(plain, (160, 120), (320, 240))
    assert lens is not None
    matrix = RemapWarp(plain.matrix3(), (160, 120), (320, 240))
    image = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 255, (120, 160), np.uint8), (0, 0), 2)
    both = np.abs(lens.apply(image).astype(int) - matrix.apply(image))  # type: ignore[arg-type]
    assert lens.valid is not None and both[cv2.erode(lens.valid, np.ones((5, 5))) > 0].max() <= 2


FOLDING = (-0.35, 0.0, 0.0, 0.0, 0.0)
"""Its distorted radius grows up to .975 only, which is .65 of the focal length."""


def coordinates(warp: RemapWarp, size: tuple[int, int]) -> np.ndarray:
    """HxWx2: from which infrared pixel (x, y) each pixel of the warped image is."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.uint16)
    return np.stack([warp.apply(x), warp.apply(y)], axis=-1)


def test_beyond_the_range_of_the_infrared_lens_the_nearest_edge_of_the_view_is_repeated() -> None:
    """Through a calibration of two lenses, and through one with a matrix and a lens."""
    infrared = Lens((160, 120), 80.0, 80.0, 79.5, 59.5, FOLDING)
    visible = Lens((320, 240), 80.0, 80.0, 159.5, 119.5)  # sees far beyond
    nowhere = Pose(np.eye(3), np.zeros(3))
    stereo = build_warp(make_stereo_calibration(infrared, visible, nowhere, 5.0), (160, 120), (320, 240))
    matrix = RemapWarp([[1, 0, 80], [0, 1, 60], [0, 0, 1]], (160, 120), (320, 240), lens=infrared)
    for warp in (stereo, matrix):
        assert warp is not None and warp.valid is not None
        v, u = np.mgrid[0:240, 0:320]
        beyond = np.hypot(u - 159.5, v - 119.5) > 0.98 * 80
        assert not warp.valid[beyond].any()
        across, down = np.moveaxis(coordinates(warp, (160, 120))[[0, 0, 239, 239, 120], [0, 319, 0, 319, 319]], -1, 0)
        ring = 0.65 * 80
        assert across == pytest.approx([79.5 + ring * s for s in (-0.8, 0.8, -0.8, 0.8, 1)], abs=1.5)
        assert down == pytest.approx([59.5 + ring * s for s in (-0.6, -0.6, 0.6, 0.6, 0)], abs=1.5)


def test_visible_pixels_that_no_ray_of_the_lens_model_reaches_show_no_infrared() -> None:
    visible = Lens((160, 120), 80.0, 80.0, 79.5, 59.5, FOLDING)
    infrared = Lens((320, 240), 80.0, 80.0, 159.5, 119.5)  # sees all that the visible one could see
    rig = make_stereo_calibration(infrared, visible, Pose(np.eye(3), np.zeros(3)), 5.0)
    warp = build_warp(rig, (320, 240), (160, 120))
    assert warp is not None and warp.valid is not None
    v, u = np.mgrid[0:120, 0:160]
    radius = np.hypot(u - 79.5, v - 59.5) / 80
    assert not warp.valid[radius > 0.655].any()
    assert warp.valid[radius < 0.645].all()


def test_a_stereo_calibration_is_read_as_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "rig.yaml"
    save_calibration(STEREO, path)
    assert load_calibration(path) == STEREO
    text = calibration_text(STEREO)
    for wrong, message in (
        (text.replace("kind: stereo", "kind: affine"), "matrix: is missing"),
        (text.replace("plane_distance_m: 5.0", ""), "plane_distance_m: is missing"),
        (text.replace("model: pinhole", "model: pinhol"), "did you mean 'pinhole'"),
        (text[: text.index("pose:")] + "plane_distance_m: 5.0\n", "pose: is missing"),
    ):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=message):
            load_calibration(path)


def test_a_distance_needs_a_calibration_that_knows_the_rig() -> None:
    flat = make_calibration("affine", (160, 120), (320, 240), [[2, 0, 5], [0, 2, 3]])
    with pytest.raises(UsageError, match="holds for one distance only"):
        build_warp(flat, (160, 120), (320, 240), 10.0)
    with pytest.raises(UsageError, match="plane_distance needs a calibration"):
        build_warp(None, (160, 120), (320, 240), 10.0)
    near = make_calibration(
        "affine", (160, 120), (320, 240), [[2, 0, 5], [0, 2, 3]], plane_distance_m=20.0, parallax_px_m=(40.0, 0.0)
    )
    assert near.matrix3(10.0)[0, 2] == pytest.approx(5 + 40 * (1 / 10 - 1 / 20))
    assert by_distance(near, [20.0, 10.0]) == [(20.0, 0.0), (10.0, pytest.approx(2.0))]
    assert by_distance(flat, [10.0]) is None


def test_the_distance_changes_between_two_frames_and_only_if_it_can() -> None:
    aligner = Aligner(lambda i, v, d, a: build_warp(STEREO, i, v, d, a))
    registration = Registration(aligner.alignment, (320, 240))
    aligner.on_change(registration.replace)

    def registered() -> FramePair:
        infrared = frame(Band.INFRARED, 0, 0, pixels=np.full((120, 160), 90, np.uint8))
        visible = frame(Band.VISIBLE, 0, 0, pixels=np.zeros((240, 320), np.uint8))
        return registration(FramePair(0, PairState.FUSED, Band.VISIBLE, infrared, visible))

    first = registered()
    aligner.set_plane_distance(1.5, (160, 120), (320, 240))
    second = registered()
    assert first.warp is not None and second.warp is not None
    assert first.warp.version != second.warp.version
    fixed = Aligner(lambda i, v, d, a: build_warp(None, i, v, d, a))
    with pytest.raises(UsageError, match="plane_distance needs"):
        fixed.set_plane_distance(3.0, (160, 120), (320, 240))
    assert fixed.alignment.plane_distance_m is None


def test_a_correction_is_scaled_with_the_image() -> None:
    seen: list[np.ndarray] = []

    def build(i: object, v: object, d: object, adjust: np.ndarray | None) -> None:
        assert adjust is not None
        seen.append(adjust)

    shift = np.array([[1.0, 0.0, 4.0], [0.0, 1.0, -2.0], [0.0, 0.0, 1.0]])
    Alignment(build, None, shift, (320, 240))((80, 60), (640, 480))  # type: ignore[arg-type]
    assert seen[0] @ (10.0, 10.0, 1.0) == pytest.approx((18.0, 6.0, 1.0))


# -- drift


def test_states_change_with_hysteresis_and_never_without_evidence() -> None:
    monitor = DriftMonitor()
    for _ in range(20):
        assert monitor.add(0, None) is DriftState.OK
    assert monitor.add(1, SUSPECT * 1.1) is DriftState.OK  # once is nothing
    assert monitor.add(2, SUSPECT * 0.9) is DriftState.OK
    assert monitor.add(3, SUSPECT * 1.1) is DriftState.OK
    assert monitor.add(4, None) is DriftState.OK
    assert monitor.add(5, SUSPECT * 1.2) is DriftState.SUSPECT
    assert monitor.add(6, SUSPECT * 0.9) is DriftState.SUSPECT  # not calm yet
    assert [monitor.add(7 + i, 0.0) for i in range(4)][-2:] == [DriftState.SUSPECT, DriftState.OK]
    assert [monitor.add(20 + i, LOST * 1.2) for i in range(2)][-1] is DriftState.LOST
    assert [(e.state, e.time_s) for e in monitor.events] == [
        (DriftState.SUSPECT, 5),
        (DriftState.OK, 10),
        (DriftState.LOST, 21),
    ]
    assert (monitor.checks, monitor.blind) == (32, 21)


def test_an_offset_around_a_limit_is_drift_although_no_two_measurements_want_the_same_state() -> None:
    monitor = DriftMonitor()
    around = [LOST * factor for factor in (1.02, 0.98, 1.02, 0.98)]
    assert [monitor.add(time_s, offset) for time_s, offset in enumerate(around)][-1] is DriftState.SUSPECT
    assert [monitor.add(10 + i, LOST * 1.02) for i in range(2)][-1] is DriftState.LOST
    better = [SUSPECT * 1.5, 0.0, SUSPECT * 1.5, 0.0]
    assert [monitor.add(20 + i, offset) for i, offset in enumerate(better)][-2:] == [
        DriftState.LOST,
        DriftState.SUSPECT,
    ]


def measured(shift_px: float, size: tuple[int, int] = (640, 480), near: float = 0.9) -> Measurement:
    matrix = np.array([[1.0, 0.0, shift_px], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return Measurement(matrix, abs(shift_px) / size[0], near, 50, size)


def test_corrections_are_small_bounded_and_only_for_drift() -> None:
    corrector = Corrector()
    assert not corrector.step(measured(5.0), drifted=False)
    left, steps = 5.0, 0
    while corrector.step(measured(left), drifted=True):
        moved = 5.0 - float(corrector.total[0, 2])
        assert left - moved <= 0.0015 * 640 + 1e-9
        left, steps = moved, steps + 1
    assert abs(left) < 0.5 and 4 <= steps <= 8
    assert not corrector.step(measured(3.0, near=0.1), drifted=True)
    for _ in range(40):
        corrector.step(measured(4.0), drifted=True)
    assert corrector.bounded and corrector.offset() <= 0.025


def street(band: Band, size: tuple[int, int], seconds: float) -> list[np.ndarray]:
    source = SyntheticSource(f"synthetic://street?size={size[0]}x{size[1]}&fps=2&duration={seconds}s&noise=1", band)
    source.open()
    images = [np.asarray(f.luma.pixels, np.uint8) for f in source.frames(threading.Event())]
    source.close()
    return images


@pytest.mark.slow
def test_a_knock_of_two_pixels_is_seen_and_corrected_within_seconds() -> None:
    """Twelve seconds of the street at two samples a second; the bracket is knocked after three."""
    infrared, visible = street(Band.INFRARED, (320, 240), 12), street(Band.VISIBLE, (640, 480), 12)
    meter, monitor, corrector = DriftMeter(), DriftMonitor(), Corrector()
    truth = true_matrix((320, 240), (640, 480))
    knock = np.array([[1.0, 0.0, 1.8], [0.0, 1.0, -1.2], [0.0, 0.0, 1.0]])
    before = None
    for number, (ir, vis) in enumerate(zip(infrared, visible, strict=True)):
        off = np.eye(3) if number < 6 else knock
        warp = RemapWarp(corrector.total @ np.linalg.inv(off) @ truth, (320, 240), (640, 480))
        if before is not None and before != warp.version and number != 6:
            meter.reset()
        before = warp.version
        found = meter.measure(np.asarray(warp.apply(ir), np.uint8), vis, warp.valid)
        assert found.sure
        total = found.offset if corrector.size == (1, 1) else corrector.offset(found.matrix @ corrector.total)
        state = monitor.add(number / 2, total)
        if number < 6:
            assert state is DriftState.OK, found.offset * 640
        corrector.step(found, state is not DriftState.OK)
    assert monitor.events and monitor.events[0].time_s <= 6.0
    left = np.linalg.inv(knock) @ corrector.total
    assert Corrector(left, (640, 480)).offset() * 640 < 1.0
