"""Warps: against OpenCV's own warp, the mask, resolutions, small images, and what is refused."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fusepipe.calibration.file.model import make_calibration
from fusepipe.calibration.matrix import check_matrix, rescale_matrix, scaling
from fusepipe.calibration.warp import RemapWarp, build_warp, size_warp
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Warp

SHIFT = np.array([[1.0, 0.0, 3.0], [0.0, 1.0, -2.0], [0.0, 0.0, 1.0]])
TURN = np.array([[1.9, -0.21, 14.0], [0.17, 1.96, -9.0], [0.0, 0.0, 1.0]])
TILT = np.array([[1.8, 0.06, 11.0], [-0.04, 1.9, 7.0], [2e-4, -1e-4, 1.0]])


def smooth(height: int, width: int, dtype: type = np.uint8, seed: int = 2) -> NDArray[np.generic]:
    """A smooth image over nearly all of the type's range."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(height, width)), (0, 0), 4.0)
    unit = (noise - noise.min()) / (noise.max() - noise.min())
    return (unit * np.iinfo(dtype).max).astype(dtype)


def interior(valid: NDArray[np.uint8] | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.full(shape, 255, np.uint8) if valid is None else valid
    return cv2.erode(mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0


def test_it_is_a_warp() -> None:
    warp: Warp = RemapWarp(TURN, (64, 48), (128, 96))
    assert warp.apply(np.zeros((48, 64), np.uint8)).shape == (96, 128)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_identity_is_exact(dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (37, 53)).astype(dtype)
    warp = RemapWarp(np.eye(3), (53, 37), (53, 37))
    assert warp.valid is None
    assert np.array_equal(warp.apply(image), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_shift_is_exact(dtype: type) -> None:
    """(x, y) goes to (x + 3, y - 2): the direction of the matrix, and of its first row."""
    image = smooth(40, 50, dtype)
    warp = RemapWarp(SHIFT, (50, 40), (50, 40))
    assert np.array_equal(warp.apply(image)[:38, 3:], image[2:, :47])
    assert warp.valid is not None
    expected = np.zeros((40, 50), np.uint8)
    expected[:38, 3:] = 255
    assert np.array_equal(warp.valid, expected)


@pytest.mark.parametrize("matrix", [SHIFT, TURN, TILT], ids=["shift", "affine", "homography"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("ir_size", "vis_size"), [((160, 120), (320, 240)), ((97, 61), (131, 173))])
def test_agrees_with_opencv(
    matrix: NDArray[np.float64], dtype: type, ir_size: tuple[int, int], vis_size: tuple[int, int]
) -> None:
    image = smooth(ir_size[1], ir_size[0], dtype)
    warp = RemapWarp(matrix, ir_size, vis_size)
    warped = warp.apply(image)
    expected = cv2.warpPerspective(image, matrix, vis_size, flags=cv2.INTER_LINEAR)
    assert warped.dtype == dtype
    assert warped.shape == (vis_size[1], vis_size[0])
    inside = interior(warp.valid, warped.shape)
    assert inside.sum() > 1000
    # one grey level of 8 bits; OpenCV 4 rounds positions to 1/32 pixel
    assert np.abs(warped.astype(int) - expected)[inside].max() <= np.iinfo(dtype).max // 255


@pytest.mark.parametrize("matrix", [SHIFT, TURN, TILT], ids=["shift", "affine", "homography"])
def test_mask_is_where_the_infrared_image_reaches(matrix: NDArray[np.float64]) -> None:
    warp = RemapWarp(matrix, (80, 60), (150, 130))
    for y, x in np.ndindex(130, 150):
        sx, sy, sw = np.linalg.inv(matrix) @ (x, y, 1.0)
        inside = -1e-4 <= sx / sw <= 79 + 1e-4 and -1e-4 <= sy / sw <= 59 + 1e-4
        assert warp.valid is not None
        assert warp.valid[y, x] == (255 if inside else 0), (x, y)


@pytest.mark.parametrize("value", [0, 1, 77, 255])
@pytest.mark.parametrize("scale", [1, 257])
@pytest.mark.parametrize("matrix", [SHIFT, TURN, TILT, scaling((90, 70), (31, 23))])
def test_a_constant_stays_constant(matrix: NDArray[np.float64], value: int, scale: int) -> None:
    dtype = np.uint8 if scale == 1 else np.uint16
    image = np.full((70, 90), value * scale, dtype)
    warp = RemapWarp(matrix, (90, 70), (101, 83))
    assert np.array_equal(warp.apply(image), np.full((83, 101), value * scale, dtype))


def test_a_multiple_of_a_matrix_is_the_same_warp() -> None:
    warps = [RemapWarp(factor * TILT, (80, 60), (150, 130)) for factor in (1.0, -2.0, 1e-3)]
    assert len({warp.version for warp in warps}) == 1
    assert np.allclose(warps[0].matrix, warps[1].matrix)


def test_the_version_distinguishes_maps() -> None:
    versions = [
        RemapWarp(TILT, (80, 60), (150, 130)).version,
        RemapWarp(TILT, (80, 60), (150, 131)).version,
        RemapWarp(TILT, (80, 61), (150, 130)).version,
        RemapWarp(TURN, (80, 60), (150, 130)).version,
        RemapWarp(TURN + np.array([[0, 0, 0.05], [0, 0, 0], [0, 0, 0]]), (80, 60), (150, 130)).version,
    ]
    assert len(set(versions)) == 5
    assert versions[0] == RemapWarp(TILT, (80, 60), (150, 130)).version
    assert all(len(version) == 12 for version in versions)


def test_results_and_inputs_are_independent() -> None:
    image = smooth(60, 80)
    wide = np.zeros((60, 100), np.uint8)
    wide[:, 10:90] = image
    view = wide[:, 10:90]
    view.flags.writeable = False
    warp = RemapWarp(TILT, (80, 60), (150, 130))
    first, second = warp.apply(image), warp.apply(view)
    assert np.array_equal(first, second)
    assert not np.shares_memory(first, second)
    assert warp.valid is not None
    assert not warp.valid.flags.writeable
    assert not warp.matrix.flags.writeable


@pytest.mark.data
def test_real_cameras(data_dir: Path) -> None:
    """Raw infrared images of RoadScene, warped by their reference matrix, lie on the registered ones."""
    folder = data_dir / "misaligned" / "roadscene_raw"
    with (folder / "reference.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    for row in rows:
        raw = cv2.imread(str(folder / "ir" / f"{row['name']}.png"), cv2.IMREAD_GRAYSCALE)
        there = cv2.imread(str(data_dir / "roadscene" / "ir" / f"{row['name']}.jpg"), cv2.IMREAD_GRAYSCALE)
        matrix = [[float(row[f"h{i}{j}"]) for j in range(3)] for i in range(3)]
        warp = RemapWarp(matrix, (raw.shape[1], raw.shape[0]), (there.shape[1], there.shape[0]))
        seen = interior(warp.valid, there.shape)
        assert seen.mean() > 0.6
        assert np.corrcoef(warp.apply(raw)[seen], there[seen])[0, 1] > 0.97, row["name"]


# --- behind the camera, and what is refused -------------------------------------------------------


def test_points_behind_the_camera_are_not_valid() -> None:
    """A horizon inside the image: w = 1 - x / 60 vanishes at x = 60 of 80 infrared pixels."""
    matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0 / 60.0, 0.0, 1.0]])
    warp = RemapWarp(matrix, (80, 60), (150, 130))
    assert warp.valid is not None
    for y, x in np.argwhere(warp.valid > 0)[::97]:
        sx, sy, sw = np.linalg.inv(matrix) @ (x, y, 1.0)
        assert (matrix @ (sx / sw, sy / sw, 1.0))[2] > 0


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((3, 3)), "is zero"),
        ([[1, 2, 3], [2, 4, 6], [0, 0, 1]], "is singular"),
        ([[1e-9, 0, 3], [0, 1e-9, 3], [0, 0, 1]], "is singular"),
        ([[1, 0, np.nan], [0, 1, 0], [0, 0, 1]], "not finite"),
        ([[1, 0], [0, 1]], r"3x3 numbers .* not \(2, 2\)"),
        ([[1, 0, 500], [0, 1, 0], [0, 0, 1]], "shows nothing of the 80x60 infrared image"),
        ([[1, 0, 0], [0, 1, 0], [1, 0, -39.5]], "centre of the infrared image to infinity"),
    ],
)
def test_degenerate_matrices_are_refused(matrix: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RemapWarp(matrix, (80, 60), (150, 130))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (40000, 5)])
def test_impossible_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="each side should be 1 to 32766"):
        RemapWarp(np.eye(3), size, (5, 5))
    with pytest.raises(UsageError, match="visible size"):
        size_warp((5, 5), size)


def test_wrong_pixels_are_refused() -> None:
    warp = RemapWarp(TILT, (80, 60), (150, 130))
    with pytest.raises(UsageError, match="is for 80x60 infrared pixels, the image has 60x80"):
        warp.apply(np.zeros((80, 60), np.uint8))
    with pytest.raises(UsageError, match="got float32"):
        warp.apply(np.zeros((60, 80), np.float32))  # type: ignore[arg-type]


# --- sizes ----------------------------------------------------------------------------------------


def test_equal_sizes_need_no_warp() -> None:
    assert size_warp((33, 21), (33, 21)) is None
    assert build_warp(None, (33, 21), (33, 21)) is None


@pytest.mark.parametrize(("ir_size", "vis_size"), [((64, 48), (160, 120)), ((31, 17), (45, 60)), ((50, 40), (51, 39))])
def test_stretched_ramp(ir_size: tuple[int, int], vis_size: tuple[int, int]) -> None:
    """A ramp over the image's width stays one: x_v = (x_i + 0.5) s - 0.5."""
    warp = size_warp(ir_size, vis_size)
    assert warp is not None and warp.valid is None
    ramp = np.tile((np.arange(ir_size[0]) * 500 + 1000).astype(np.uint16), (ir_size[1], 1))
    place = (np.arange(vis_size[0]) + 0.5) * ir_size[0] / vis_size[0] - 0.5
    expected = np.clip(place, 0, ir_size[0] - 1) * 500 + 1000
    # OpenCV 4 rounds positions to 1/32 pixel
    assert np.abs(warp.apply(ramp) - expected).max() <= 500 / 64 + 1


def test_shrinking_averages() -> None:
    """Halving is the mean of 2x2 pixels: a chessboard of single pixels becomes grey, not aliased."""
    image = np.random.default_rng(4).integers(0, 256, (48, 64), np.uint8)
    half = build_warp(None, (64, 48), (32, 24))
    assert half is not None
    expected = image.reshape(24, 2, 32, 2).mean(axis=(1, 3))
    assert np.abs(half.apply(image) - expected).max() <= 1
    third = build_warp(None, (63, 48), (21, 16))
    assert third is not None
    expected = image[:, :63].reshape(16, 3, 21, 3).mean(axis=(1, 3))
    assert np.abs(third.apply(np.ascontiguousarray(image[:, :63])) - expected).max() <= 1
    # along one axis only
    narrow = build_warp(None, (64, 48), (16, 48))
    assert narrow is not None
    assert np.abs(narrow.apply(image) - image.reshape(48, 16, 4).mean(axis=2)).max() <= 1


@pytest.mark.parametrize(
    ("ir_size", "vis_size"), [((1, 1), (4, 3)), ((5, 3), (1, 1)), ((1, 7), (3, 7)), ((1, 1), (1, 2))]
)
def test_tiny_images(ir_size: tuple[int, int], vis_size: tuple[int, int]) -> None:
    warp = size_warp(ir_size, vis_size)
    assert warp is not None and warp.valid is None
    image = np.full((ir_size[1], ir_size[0]), 99, np.uint8)
    assert np.array_equal(warp.apply(image), np.full((vis_size[1], vis_size[0]), 99))


def test_rescaled_matrix_takes_scaled_points_to_scaled_points() -> None:
    there = rescale_matrix(TILT, (160, 120), (320, 240), (80, 60), (640, 480))
    rng = np.random.default_rng(8)
    for x, y in rng.uniform(0, 100, (20, 2)):
        u, v, w = TILT @ (x, y, 1.0)
        a, b, c = there @ ((x + 0.5) / 2 - 0.5, (y + 0.5) / 2 - 0.5, 1.0)
        assert (a / c, b / c) == pytest.approx(((u / w + 0.5) * 2 - 0.5, (v / w + 0.5) * 2 - 0.5))
    assert np.array_equal(rescale_matrix(TILT, (160, 120), (320, 240), (160, 120), (320, 240)), TILT)


def test_a_calibration_serves_other_resolutions_of_its_cameras() -> None:
    calibration = make_calibration("homography", (160, 120), (320, 240), TILT)
    full = build_warp(calibration, (160, 120), (320, 240))
    double = build_warp(calibration, (160, 120), (640, 480))
    assert full is not None and double is not None
    image = smooth(120, 160)
    reduced = double.apply(image).reshape(240, 2, 320, 2).mean(axis=(1, 3))
    assert full.valid is not None
    assert np.abs(reduced - full.apply(image))[interior(full.valid, (240, 320))].max() <= 2


@pytest.mark.parametrize(
    ("ir_size", "vis_size", "message"),
    [
        ((160, 100), (320, 240), "the infrared camera delivers 160x100, the calibration was made at 160x120"),
        ((160, 120), (1280, 720), "the visible camera delivers 1280x720, the calibration was made at 320x240"),
    ],
)
@pytest.mark.parametrize("kind", ["identity", "homography"])
def test_another_aspect_ratio_is_refused(
    kind: str, ir_size: tuple[int, int], vis_size: tuple[int, int], message: str
) -> None:
    matrix = TILT if kind == "homography" else None
    calibration = make_calibration(kind, (160, 120), (320, 240), matrix)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        build_warp(calibration, ir_size, vis_size)
    # 2 % and less is rounding of sizes
    assert build_warp(calibration, (160, 119), (321, 240)) is not None


def test_identity_calibration_is_a_stretch() -> None:
    calibration = make_calibration("identity", (320, 240), (640, 480))
    warp, expected = build_warp(calibration, (160, 120), (640, 480)), size_warp((160, 120), (640, 480))
    assert warp is not None and expected is not None
    assert warp.version == expected.version
    assert build_warp(calibration, (320, 240), (320, 240)) is None
    eye = make_calibration("affine", (320, 240), (320, 240), np.eye(3))
    assert build_warp(eye, (320, 240), (320, 240)) is None


def test_checked_matrix_keeps_mirrors_and_takes_two_rows() -> None:
    mirror = np.array([[-1.0, 0.0, 79.0], [0.0, 1.0, 0.0]])
    checked = check_matrix(mirror, (80, 60), (80, 60))
    assert checked.shape == (3, 3)
    image = smooth(60, 80)
    assert np.array_equal(RemapWarp(mirror, (80, 60), (80, 60)).apply(image), image[:, ::-1])


def test_a_warp_takes_the_memory_of_its_map_and_little_more() -> None:
    width, height = 1200, 900
    tracemalloc.start(1)
    try:
        before, _ = tracemalloc.get_traced_memory()
        warp = size_warp((640, 480), (width, height))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert warp is not None
    assert (peak - before) / (width * height) < 11, "two float32 and a mask a pixel; copies took 26"
