"""Boards: found in faint, inverted and blurred images; lenses and poses against the truth; bad views reported."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers.board_images import BOARD, INFRARED, VISIBLE, draw, in_infrared, placements, write_views
from threadpoolctl import threadpool_info, threadpool_limits

from fusepipe.calibration.board.capture import Collector, coverage_lines
from fusepipe.calibration.board.intrinsics import View, calibrate_camera
from fusepipe.calibration.board.point_detection import Detection, charuco_board, detect
from fusepipe.calibration.board.stereo import Pose, StereoResult
from fusepipe.calibration.board.target import Board, parse_board
from fusepipe.calibration.file.storage import load_calibration
from fusepipe.calibration.lens import Lens
from fusepipe.cli import cli, main
from fusepipe.core.errors import UsageError
from fusepipe.workflows.calibrate_board import Views, solve


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["calibrate", *map(str, arguments)])


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", *map(str, arguments)])
    return int(stopped.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "board"),
    [
        ("checkerboard:6x5:0.1m", Board("checkerboard", 6, 5, 0.1)),
        ("circles:4x11:40mm", Board("circles", 4, 11, 0.04)),
        ("charuco:8x6:4cm:3cm", Board("charuco", 8, 6, 0.04, 0.03)),
    ],
)
def test_boards_are_named_in_one_word(text: str, board: Board) -> None:
    parsed = parse_board(text)
    assert (parsed.kind, parsed.shape, parsed.count) == (board.kind, board.shape, board.count)
    assert parsed.points() == pytest.approx(board.points())
    assert parse_board(str(parsed)).points() == pytest.approx(board.points())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chess:6x5:0.1m", "is not a board: use checkerboard:6x5:0.1m"),
        ("checkerboard:6x5:0.1", "lengths need a unit, mm, cm or m: checkerboard:6x5:0.1m"),
        ("charuco:8x6:4:3", "lengths need a unit"),
        ("checkerboard:6x5", "is not a checkerboard board"),
        ("checkerboard:6x5:25m", "spacing is 25 m; 0.1 mm to 1 m is possible: is the unit right"),
        ("checkerboard:6x5:2.5m", "is the unit right"),
        ("checkerboard:6x6:0.1m", "rotated by 90 degrees"),
        ("charuco:8x6:3cm:4cm", "does not fit into squares"),
        ("checkerboard:1x5:0.1m", "3 to 60 across"),
    ],
)
def test_impossible_boards_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_board(text)


@pytest.mark.parametrize(("metres", "warned"), [(0.08, 0), (2.0, 0), (60.0, 1)])
def test_cameras_far_apart_cause_a_warning(metres: float, warned: int) -> None:
    pose = Pose(np.eye(3), np.array([-metres, 0.0, 0.0]))
    warnings = StereoResult(pose, 0.3, {}, {}, 5.0, "").warnings()
    assert len(warnings) == warned
    assert not warned or "60 m apart: check the side of a square in --board" in warnings[0]


def truth(lens: Lens, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    points = BOARD.points().astype(np.float64) @ rotation.T + translation
    return lens.project(points[:, :2] / points[:, 2:])


@pytest.mark.parametrize("kind", ["plain", "inverted", "faint", "blurred", "noisy"])
def test_a_checkerboard_is_found_to_a_fraction_of_a_pixel(kind: str) -> None:
    rotation, translation = in_infrared(*placements(3)[2])
    levels = {"inverted": (210, 40, 110), "faint": (112, 96, 104)}.get(kind, (40, 210, 110))
    image = draw(INFRARED, rotation, translation, levels=levels, noise={"noisy": 8.0, "faint": 0.7}.get(kind, 1.0))
    if kind == "blurred":
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 2.0), np.uint8)
    found = detect(image, BOARD)
    assert found is not None
    expected = truth(INFRARED, rotation, translation)
    off = min(np.hypot(*(points - expected).T).mean() for points in (found.points, found.points[::-1]))
    assert off < (0.5 if kind in ("noisy", "blurred", "faint") else 0.2)


def test_charuco_and_circles_are_found() -> None:
    charuco = parse_board("charuco:8x6:4cm:3cm")
    board_image = charuco_board(charuco).generateImage((640, 480), marginSize=40)
    found = detect(np.asarray(board_image, np.uint8), charuco)
    assert found is not None and len(found.ids) == charuco.count
    half = detect(np.where(np.arange(640) > 330, 255, board_image).astype(np.uint8), charuco)
    assert half is not None and 8 <= len(half.ids) < charuco.count
    circles = parse_board("circles:4x11:20mm")
    image = np.full((480, 640), 60, np.uint8)
    for x, y, _ in circles.points():
        cv2.circle(image, (round(180 + x * 1900), round(40 + y * 1900)), 12, 190, -1, cv2.LINE_AA)
    for shown in (image, np.asarray(255 - image, np.uint8)):
        found = detect(shown, circles)
        assert found is not None and len(found.ids) == 44


def test_noise_has_no_board() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (120, 160), np.uint8)
    assert detect(np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8), BOARD) is None


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    write_views(folder, 10)
    return folder


@pytest.mark.slow
def test_a_rig_is_calibrated_to_half_a_pixel(views: Path, tmp_path: Path) -> None:
    out = tmp_path / "rig.yaml"
    ran = run("board", views / "ir", views / "vis", "--board", BOARD, "-o", out, "--json")
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)
    assert report["infrared"]["rms_px"] < 0.3 and report["visible"]["rms_px"] < 0.3
    assert report["stereo"]["rms_px"] < 0.4 and report["stereo"]["loose"] == ""
    calibration = load_calibration(out)
    infrared, visible = calibration.lenses()
    pose = calibration.rig_pose()
    # held out: boards that no view had, farther away, placed by the visible camera and looked for in infrared
    for rotation, translation in placements(5, seed=77):
        seen = translation * (1, 1, 1.3)
        points = BOARD.points().astype(np.float64)
        rays = visible.rays(truth(VISIBLE, rotation, seen))
        _, turn, shift = cv2.solvePnP(points, rays, np.eye(3), np.zeros(4))
        there = points @ cv2.Rodrigues(turn)[0].T + shift.ravel()
        there = (there - pose.translation_m) @ pose.rotation
        found = infrared.project(there[:, :2] / there[:, 2:])
        assert np.hypot(*(found - truth(INFRARED, *in_infrared(rotation, seen))).T).mean() < 0.5


@pytest.mark.slow
def test_both_cameras_in_one_image_side_by_side(views: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    both.mkdir()
    for path in sorted((views / "vis").iterdir()):
        images = [cv2.imread(str(views / name / path.name), cv2.IMREAD_GRAYSCALE) for name in ("ir", "vis")]
        side = cv2.copyMakeBorder(images[0], 0, images[1].shape[0] - images[0].shape[0], 0, 0, cv2.BORDER_CONSTANT)
        assert cv2.imwrite(str(both / path.name), cv2.hconcat([side, images[1]]))
    crops = [
        word
        for name, x, lens in (("infrared", 0, INFRARED), ("visible", INFRARED.size[0], VISIBLE))
        for word in (f"--{name}-crop", x, 0, *lens.size)
    ]
    reports = []
    for folders, options in (((both, both), crops), ((views / "ir", views / "vis"), [])):
        ran = run("board", *folders, "--board", BOARD, "-o", tmp_path / f"{len(options)}.yaml", "--json", *options)
        assert ran.exit_code == 0, ran.output
        reports.append(json.loads(ran.stdout))
    for camera in ("infrared", "visible"):
        one, other = (report[camera] for report in reports)
        assert one["size"] == other["size"] and one["focal"] == pytest.approx(other["focal"], abs=0.01)
    assert reports[0]["stereo"]["angle_deg"] == pytest.approx(reports[1]["stereo"]["angle_deg"], abs=0.001)


@pytest.mark.slow
def test_a_loose_rig_and_a_mirrored_camera_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("loose", "mirrored"):
        folder = tmp_path / kind
        folder.mkdir()
        write_views(folder, 8, loose=kind == "loose", mirrored=kind == "mirrored")
        out = tmp_path / f"{kind}.yaml"
        code, error = failure(capsys, "board", folder / "ir", folder / "vis", "--board", BOARD, "-o", out)
        assert code == 1 and not out.exists()
        assert ("not one rigid rig" if kind == "loose" else "are mirrored") in error


def test_too_few_views_are_reported(views: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for band in ("ir", "vis"):
        (tmp_path / band).mkdir()
        (tmp_path / band / "00.png").write_bytes((views / band / "00.png").read_bytes())
    arguments = ["board", tmp_path / "ir", tmp_path / "vis", "--board", str(BOARD), "-o", tmp_path / "x.yaml"]
    code, error = failure(capsys, *arguments)
    assert code == 2 and "found in 1 infrared view; 4 are the minimum" in error


def test_one_bad_view_is_left_out() -> None:
    found = []
    for number, (rotation, translation) in enumerate(placements(9)):
        points = truth(VISIBLE, rotation, translation) + np.random.default_rng(number).normal(0, 0.1, (42, 2))
        if number == 4:
            points[::3] += (6.0, -4.0)  # a reflection on the board
        found.append(View(f"view-{number}", Detection(points.astype(np.float32), np.arange(42), "drawn")))
    result = calibrate_camera(found, BOARD, VISIBLE.size, "pinhole", "visible")
    assert list(result.rejected) == ["view-4"]
    assert result.rms_px < 0.2
    assert abs(result.lens.fx - VISIBLE.fx) < max(4 * result.deviations[0], 3)
    assert 0 < result.covered <= 1


def test_openblas_has_one_thread_while_a_camera_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads wait for each other in a loop: minutes, where other work keeps the cores busy."""

    def threads() -> list[int]:
        return [int(library["num_threads"]) for library in threadpool_info() if library["user_api"] == "blas"]

    def solved(*words: object, **named: object) -> object:
        during.append(threads())
        return real(*words, **named)

    real, during, before = cv2.calibrateCameraExtended, [], threads()
    monkeypatch.setattr(cv2, "calibrateCameraExtended", solved)
    views = [
        View(str(n), Detection(truth(VISIBLE, *place).astype(np.float32), np.arange(42), "drawn"))
        for n, place in enumerate(placements(5))
    ]
    with threadpool_limits(limits=2, user_api="blas"):  # also on a machine of one core
        calibrate_camera(views, BOARD, VISIBLE.size, "pinhole", "visible")
        assert set(threads()) == {2}
    assert during and all(set(each) == {1} for each in during)
    assert threads() == before


def test_a_fisheye_is_solved() -> None:
    lens = Lens((640, 480), 280.0, 281.0, 320.0, 240.0, (0.02, -0.005, 0.001, 0.0), "fisheye")
    found = []
    for number, (rotation, translation) in enumerate(placements(12)):
        points = BOARD.points().astype(np.float64) @ rotation.T + translation * (2.4, 2.4, 0.6)
        pixels = lens.project(points[:, :2] / points[:, 2:]) + np.random.default_rng(number).normal(0, 0.05, (42, 2))
        found.append(View(str(number), Detection(pixels.astype(np.float32), np.arange(42), "drawn")))
    result = calibrate_camera(found, BOARD, lens.size, "fisheye", "visible")
    assert result.rms_px < 0.15 and abs(result.lens.fx - lens.fx) < 5
    assert len(result.deviations) == 8 and result.deviations[0] > 0


def test_live_views_are_accepted_when_still_and_new() -> None:
    collector = Collector(BOARD, INFRARED.size, VISIBLE.size)

    def seen(number: int, shift: float = 0.0) -> tuple[Detection, Detection]:
        placed = placements(6)[number]
        ids = np.arange(BOARD.count)
        infrared = truth(INFRARED, *in_infrared(*placed)).astype(np.float32)
        return Detection(infrared, ids, ""), Detection((truth(VISIBLE, *placed) + shift).astype(np.float32), ids, "")

    assert collector.offer(0.0, "a", *seen(0)) == "wait: hold still"
    assert collector.offer(0.25, "b", *seen(0, 40.0)) == "moving: hold still"
    assert collector.offer(0.5, "c", *seen(0, 40.5)) == "accepted"
    assert collector.offer(0.75, "d", *seen(0, 41.0)).startswith("similar to an accepted view")
    assert collector.offer(1.0, "e", seen(0)[0], None) == "no complete board in visible"
    assert collector.offer(1.25, "f", *seen(3)) == "wait: hold still"
    assert collector.offer(1.5, "g", *seen(3)) == "accepted"
    assert [one.name for one, _ in collector.pairs] == ["c", "g"]
    lines = coverage_lines(collector.coverage()[1])
    assert len(lines) == 6 and any("█" in line for line in lines) and any("·" in line for line in lines)


def test_a_bent_board_is_solved_for_and_a_good_one_left_alone() -> None:
    random = np.random.default_rng(4)
    flaw = random.normal(0, 0.008 * BOARD.spacing_m, (BOARD.count, 3))
    flaw[[0, BOARD.columns - 1]], flaw[-1, 2] = 0, 0
    results = {}
    for kind, off in (("good", 0.0), ("bent", 1.0)):
        found = []
        for number, (rotation, translation) in enumerate(placements(16)):
            points = (BOARD.points() + off * flaw) @ rotation.T + translation
            pixels = VISIBLE.project(points[:, :2] / points[:, 2:]) + random.normal(0, 0.1, (42, 2))
            found.append(View(f"view-{number}", Detection(pixels.astype(np.float32), np.arange(42), "drawn")))
        results[kind] = calibrate_camera(found, BOARD, VISIBLE.size, "pinhole", "visible")
    assert results["good"].board_flaw_m == 0.0
    assert results["bent"].board_flaw_m == pytest.approx(np.sqrt((flaw**2).sum(axis=1).mean()), rel=0.3)
    for result in results.values():
        assert result.rms_px < 0.16 and abs(result.lens.fx - VISIBLE.fx) < 6


def test_implausible_names_folders_and_options_are_refused(
    views: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = ["--board", BOARD, "-o", tmp_path / "x.yaml"]
    code, error = failure(capsys, "board", views / "ir", views / "ir", *ending)
    assert code == 2 and "is given for both cameras" in error
    code, error = failure(capsys, "board", "a.mkv", "b.mkv", "--more-infrared", views / "ir", *ending)
    assert code == 2 and "--more-infrared and --more-visible add to folders" in error
    found = {
        camera: [
            View(f"{camera}-{n}", Detection(truth(lens, *place(n)).astype(np.float32), np.arange(42), ""))
            for n in range(4)
        ]
        for camera, lens, place in (
            ("infrared", INFRARED, lambda n: in_infrared(*placements(4)[n])),
            ("visible", VISIBLE, lambda n: placements(4)[n]),
        )
    }
    sets = [Views(name, lens.size, found[name]) for name, lens in (("infrared", INFRARED), ("visible", VISIBLE))]
    with pytest.raises(UsageError, match="for example 'infrared-0' and 'visible-0'"):
        solve(sets[0], sets[1], BOARD)


REAL = parse_board("checkerboard:6x5:0.1m")


def hide_a_corner_square(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The square outside of the first corner gets the median grey of the image."""
    matrix, _ = cv2.findHomography(REAL.points()[:, :2] / REAL.spacing_m, points)
    square = np.array([[[-1.1, -1.1], [0, -1.1], [0, 0], [-1.1, 0]]])
    covered = image.copy()
    cv2.fillConvexPoly(
        covered, np.rint(cv2.perspectiveTransform(square, matrix)[0]).astype(np.int32), float(np.median(image))
    )
    return covered


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ir/Img05", "ir/Img54", "ir_only/Img30", "ir_only/Img75"])
def test_real_thermal_boards_are_found(data_dir: Path, name: str) -> None:
    """A sample of what benchmarks/study_boards does with all 47."""
    image = cv2.imread(str(data_dir / "calibration_boards" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE)
    sharp = detect(np.asarray(image, np.uint8), REAL)
    assert sharp is not None
    damaged = {
        "weak": np.clip(image * 0.2 + 50, 0, 255),
        "noisy": np.clip(image + np.random.default_rng(1).normal(0, 8, image.shape), 0, 255),
        "blurred": cv2.GaussianBlur(image, (0, 0), 2.0),
        "hidden": hide_a_corner_square(image, sharp.points),
    }
    for kind, changed in damaged.items():
        assert not np.array_equal(changed, image), kind
        found = detect(changed.astype(np.uint8), REAL)
        assert found is not None, kind
        # in a version with inverted contrast the other end of the board comes first
        inverted = found.how.endswith("inverted") != sharp.how.endswith("inverted")
        points = found.points[::-1] if inverted else found.points
        assert np.hypot(*(points - sharp.points).T).mean() < 0.6, (kind, found.how)


@pytest.mark.data
@pytest.mark.slow
def test_real_cameras_are_solved_and_were_no_rigid_rig(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "calibration_boards"
    out = tmp_path / "x.yaml"
    ran = run("board", folder / "ir", folder / "vis", "--board", REAL, "-o", out, "--json")
    assert ran.exit_code == 1 and not out.exists()
    report = json.loads(ran.stdout)
    assert report["infrared"]["views"] == report["visible"]["views"] == 15 and not report["without_board"]
    assert report["infrared"]["rms_px"] < 0.5 and report["visible"]["rms_px"] < 0.8
    assert report["stereo"]["rms_px"] > 2 and "not one rigid rig" in report["stereo"]["loose"]


@pytest.mark.data
@pytest.mark.slow
def test_real_visible_corners_are_those_that_were_published(data_dir: Path) -> None:
    folder = data_dir / "calibration_boards"
    rows = list(csv.DictReader((folder / "corners_vis.csv").read_text().splitlines()))
    for name in ("Img23", "Img63"):
        published = np.array([(float(r["x"]) - 1, float(r["y"]) - 1) for r in rows if r["image"] == name])
        assert len(published) == 30
        found = detect(
            np.asarray(cv2.imread(str(folder / "vis" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE), np.uint8), REAL
        )
        assert found is not None
        off = np.hypot(*(published[:, None] - found.points[None]).transpose(2, 0, 1))
        assert off.min(axis=1).mean() < 1.0 and len(set(off.argmin(axis=1))) == 30
