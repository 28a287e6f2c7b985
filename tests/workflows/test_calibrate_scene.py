"""Calibration from the scene: close to the truth where it answers, silent with a reason where it should be."""

from __future__ import annotations

import csv
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fusepipe.calibration.file.storage import load_calibration
from fusepipe.calibration.matrix import scaling
from fusepipe.calibration.scene.local_matches import Matches, fit, select_model
from fusepipe.calibration.scene.match_quality import match_quality
from fusepipe.calibration.scene.registration import SceneResult, register
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.cli import cli, main
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band, Luma8
from fusepipe.pipeline.sources.synthetic.source import SyntheticSource
from fusepipe.pipeline.sources.synthetic.truth import true_matrix
from fusepipe.workflows.calibrate_scene import Hints, reliability_warning

IR, VIS = (320, 240), (640, 480)


def street_image(band: Band, size: tuple[int, int]) -> Luma8:
    source = SyntheticSource(f"synthetic://street?size={size[0]}x{size[1]}&duration=40ms&noise=1", band)
    source.open()
    (frame,) = source.frames(threading.Event())
    source.close()
    return np.asarray(frame.luma.pixels, np.uint8)


@pytest.fixture(scope="module")
def street() -> ScenePair:
    return ScenePair(street_image(Band.INFRARED, IR), street_image(Band.VISIBLE, VIS), "street")


def corner_error_px(matrix: np.ndarray) -> float:
    corners = np.array([[[0, 0], [IR[0] - 1, 0], [0, IR[1] - 1], [IR[0] - 1, IR[1] - 1]]], np.float64)
    off = cv2.perspectiveTransform(corners, matrix) - cv2.perspectiveTransform(corners, true_matrix(IR, VIS))
    return float(np.hypot(off[..., 0], off[..., 1]).mean())


@pytest.mark.slow
def test_the_street_is_registered(street: ScenePair, tmp_path: Path) -> None:
    for name, image in (("ir", street.infrared), ("vis", street.visible)):
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    out = tmp_path / "street.yaml"
    ran = CliRunner().invoke(cli, ["calibrate", "scene", f"{tmp_path}/ir.png", f"{tmp_path}/vis.png", "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    calibration = load_calibration(out)
    error_px = corner_error_px(calibration.matrix3())
    assert error_px < 3.0
    assert "expected error: at most" in ran.stdout and "of 9 parts of the image" in ran.stdout
    assert calibration.quality is not None and error_px < float(calibration.quality["expected_error_corners_px"]) < 30
    assert calibration.quality is not None and float(calibration.quality["confidence"]) > 0.4
    assert match_quality([street], true_matrix(IR, VIS)).confidence > 0.4


@pytest.mark.slow
def test_unknown_values_are_omitted(street: ScenePair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = ScenePair(street.infrared, np.ascontiguousarray(street.visible[::-1, ::-1]))
    assert "no alignment of the two views was found" in register([other], explain=False).refusal
    mirrored = ScenePair(np.ascontiguousarray(street.infrared[:, ::-1]), street.visible)
    assert "are mirrored" in register([mirrored]).refusal
    flat = np.random.default_rng(2).normal(100, 0.6, (240, 320)).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "ir.png"), flat) and cv2.imwrite(str(tmp_path / "vis.png"), street.visible)
    out = tmp_path / "x.yaml"
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", "scene", str(tmp_path / "ir.png"), str(tmp_path / "vis.png"), "-o", str(out)])
    assert stopped.value.code == 1 and not out.exists()
    assert "hardly any texture" in capsys.readouterr().err


def test_pairs_complement_each_other_and_outliers_are_counted(street: ScenePair) -> None:
    other = ScenePair(street.infrared, np.ascontiguousarray(street.visible[::-1, ::-1]), "other")
    alone, both = (match_quality(pairs, true_matrix(IR, VIS)) for pairs in ([street], [street, other]))
    assert (alone.pairs_near, both.pairs_near) == (1, 1)
    assert both.pooled > 0.3
    assert both.confidence < 0.6 * alone.confidence, "one of two shows something else"
    for seen, said in ((alone, ""), (both, "only 1 of the 2 pairs")):
        pairs = 1 if seen is alone else 2
        result = SceneResult(true_matrix(IR, VIS), "affine", seen, IR, VIS, pairs)
        assert reliability_warning(result).startswith(said) and bool(reliability_warning(result)) == bool(said)


def test_agreement_in_a_corner_is_not_accepted(street: ScenePair) -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(3).normal(0, 1, (240, 320)), (0, 0), 1.5)
    image = np.clip(120 + 160 * noise, 0, 255).astype(np.uint8)
    whole = match_quality([street], true_matrix(IR, VIS))
    image[150:, :110] = street.infrared[150:, :110]
    corner = match_quality([ScenePair(image, street.visible)], true_matrix(IR, VIS))
    assert whole.accepted and whole.parts >= 6 and whole.evidence > 20
    assert not corner.reliable and corner.parts < 3, corner.agreement
    assert "needed: 32 blocks in 3 parts" in corner.agreement


def test_chance_gives_no_evidence() -> None:
    """Blocks of unrelated images: by Markov's inequality, evidence of 12 has a probability below 1 in 100,000."""
    random = np.random.default_rng(8)

    def image() -> Luma8:
        noise = cv2.GaussianBlur(random.normal(0, 1, (240, 320)), (0, 0), 2)
        return np.clip(120 + 200 * noise, 0, 255).astype(np.uint8)

    seen = [match_quality([ScenePair(image(), image())], true_matrix(IR, IR)) for _ in range(20)]
    assert max(one.evidence for one in seen) < 3.0
    assert max(one.near for one in seen) < 0.2 and not any(one.accepted for one in seen)


def test_uncertain_pairs_are_certain_together(street: ScenePair) -> None:
    random = np.random.default_rng(4)

    def hidden() -> ScenePair:
        """A third of the street, somewhere else each time; the rest of the infrared image is noise."""
        noise = cv2.GaussianBlur(random.normal(0, 1, (240, 320)), (0, 0), 1.5)
        image = np.clip(120 + 160 * noise, 0, 255).astype(np.uint8)
        left = int(random.integers(0, 200))
        image[:, left : left + 110] = street.infrared[:, left : left + 110]
        return ScenePair(image, street.visible)

    pairs = [hidden() for _ in range(8)]
    seen = match_quality(pairs, true_matrix(IR, VIS))
    alone = [match_quality([pair], true_matrix(IR, VIS)).confidence for pair in pairs]
    assert max(alone[1:4]) < 0.45 and seen.pairs_near <= 6
    assert seen.confidence > max(0.3, float(np.median(alone)))


@pytest.mark.slow
def test_pairs_that_do_not_belong_together_are_refused_however_many(street: ScenePair) -> None:
    turned = [
        street.visible[::-1],
        street.visible[:, ::-1],
        street.visible[::-1, ::-1],
        np.roll(street.visible, 240, 0),
    ]
    pairs = [ScenePair(street.infrared, np.ascontiguousarray(visible)) for visible in turned]
    found = register(pairs, explain=False)
    assert found.refusal and found.quality.confidence < 0.2


def test_one_image_is_not_a_pair(street: ScenePair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "a.png"
    assert cv2.imwrite(str(image), street.visible)
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", "scene", str(image), str(image), "-o", str(tmp_path / "x.yaml")])
    assert stopped.value.code == 2
    assert "are the same image" in capsys.readouterr().err


def test_swapped_cameras_are_reported(street: ScenePair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colour = cv2.merge([street.visible, np.roll(street.visible, 40, axis=1), street.visible // 2])
    assert cv2.imwrite(str(tmp_path / "colour.png"), colour) and cv2.imwrite(
        str(tmp_path / "grey.png"), street.infrared
    )
    with pytest.raises(SystemExit) as stopped:
        main(
            ["calibrate", "scene", str(tmp_path / "colour.png"), str(tmp_path / "grey.png"), "-o", str(tmp_path / "x")]
        )
    assert stopped.value.code == 2
    assert "the cameras are swapped" in capsys.readouterr().err


def test_pairs_of_two_rigs_are_refused(street: ScenePair) -> None:
    with pytest.raises(UsageError, match="of different sizes"):
        register([street, ScenePair(street.infrared[:200], street.visible)])
    with pytest.raises(UsageError, match="too small to match"):
        register([ScenePair(street.infrared[:40], street.visible)])


def surfaces(displacement: np.ndarray) -> Matches:
    """Blocks whose surfaces peak at given displacements, one in five nowhere in particular."""
    random = np.random.default_rng(5)
    grid = np.arange(-8, 9)
    y, x = np.meshgrid(np.arange(30, 370, 40), np.arange(30, 500, 40), indexing="ij")
    centres = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)
    off = displacement(centres)
    made = 0.5 * np.exp(
        -((grid[None, None] - off[:, 0, None, None]) ** 2 + (grid[None, :, None] - off[:, 1, None, None]) ** 2) / 5
    )
    made[::5] = 0
    return Matches(centres, (made + random.normal(0, 0.02, made.shape)).astype(np.float32), (512, 384))


def test_the_model_is_as_large_as_the_evidence() -> None:
    shift = select_model(surfaces(lambda c: np.tile((2.4, -1.3), (len(c), 1))))
    assert shift.model == "shift"
    assert shift.displacement[0] == pytest.approx((2.4, -1.3), abs=0.15)
    turned = select_model(surfaces(lambda c: (c - (256, 192)) @ np.array([[0.0, 0.02], [-0.02, 0.0]])))
    assert turned.model == "similarity"
    tilted = surfaces(lambda c: (c - (256, 192)) * ((c[:, :1] - 256) * 9e-5))
    best = select_model(tilted)
    assert best.model == "homography"
    # the matrix does what the displacements say
    moved = cv2.perspectiveTransform(tilted.centres[None], fit(tilted, "homography").matrix)[0] - tilted.centres
    assert np.abs(moved - (tilted.centres - (256, 192)) * ((tilted.centres[:, :1] - 256) * 9e-5)).max() < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("roll_deg", [-12.0, 15.0])
def test_a_rolled_camera_is_registered(street: ScenePair, roll_deg: float) -> None:
    turn = np.vstack([cv2.getRotationMatrix2D((159.5, 119.5), roll_deg, 1.0), [0, 0, 1]])
    rolled = cv2.warpAffine(street.infrared, turn[:2], IR, borderMode=cv2.BORDER_REFLECT)
    result = register([ScenePair(np.asarray(rolled, np.uint8), street.visible)])
    assert not result.refusal
    assert corner_error_px(result.matrix @ turn) < 4.0


@pytest.mark.slow
def test_a_very_small_sensor_is_registered(street: ScenePair) -> None:
    small = np.asarray(cv2.resize(street.infrared, (80, 60), interpolation=cv2.INTER_AREA), np.uint8)
    result = register([ScenePair(small, street.visible)])
    assert not result.refusal
    assert corner_error_px(result.matrix @ scaling(IR, (80, 60))) < 4.0


def test_hints_narrow_the_search() -> None:
    hints = Hints(24.0, 48.0, (0.06, 0.0), 20.0)
    low, high = hints.scales
    assert low < 0.4774 < high and high / low < 1.3
    parallax = hints.parallax_px_m(640)
    assert parallax is not None and parallax[0] == pytest.approx(43.1, abs=0.1)
    with pytest.raises(UsageError, match="both cameras"):
        Hints(24.0)
    with pytest.raises(UsageError, match="--mount needs"):
        Hints(mount_m=(0.1, 0.0))


@pytest.mark.data
@pytest.mark.slow
def test_a_real_pair_is_registered_and_a_wrong_one_refused(data_dir: Path) -> None:
    folder = data_dir / "misaligned" / "roadscene_raw"
    rows = {row["name"]: row for row in csv.DictReader((folder / "reference.csv").read_text().splitlines())}
    row = rows["FLIR_06307"]
    infrared = cv2.imread(str(folder / "ir" / "FLIR_06307.png"), cv2.IMREAD_GRAYSCALE)
    visible = cv2.imread(str(folder / "vis" / "FLIR_06307.jpg"), cv2.IMREAD_GRAYSCALE)
    result = register([ScenePair(np.asarray(infrared, np.uint8), np.asarray(visible, np.uint8))])
    assert not result.refusal
    width, height = int(row["aligned_width"]), int(row["aligned_height"])
    corners = np.array([[[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]], np.float64)
    reference = np.array([[float(row[f"h{i}{j}"]) for j in range(3)] for i in range(3)])
    raw = cv2.perspectiveTransform(corners, np.linalg.inv(reference))
    found = (cv2.perspectiveTransform(raw, result.matrix) + 0.5) * (width / visible.shape[1], height / visible.shape[0])
    assert np.hypot(*(found - 0.5 - corners)[0].T).mean() < 5.0
    other = cv2.imread(str(folder / "vis" / "FLIR_00006.jpg"), cv2.IMREAD_GRAYSCALE)
    wrong = register([ScenePair(np.asarray(infrared, np.uint8), np.asarray(other, np.uint8))], explain=False)
    assert wrong.refusal


@pytest.mark.data
@pytest.mark.slow
def test_another_candidate_is_taken_where_the_first_one_fails(data_dir: Path) -> None:
    """A narrow, soft and noisy infrared image, for which the strongest candidate of the search is wrong."""
    infrared, visible = (
        cv2.imread(str(data_dir / "roadscene" / band / "FLIR_video_01425.jpg"), cv2.IMREAD_GRAYSCALE)
        for band in ("ir", "vis")
    )
    truth = np.array([[0.97732, -0.060501, -6.58826], [0.043029, 0.968768, -19.693016], [5e-5, -2e-5, 1.0]])
    cropped = np.array([[1.0, 0, 113], [0, 1, 27], [0, 0, 1]])
    soft = cv2.warpPerspective(infrared, np.linalg.inv(cropped @ truth), (320, 256), borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(soft.astype(np.float32), (0, 0), 1.5)
    noisy = 128 + 0.4 * (soft - soft.mean()) + np.random.default_rng(0).normal(0, 4, soft.shape)
    pair = ScenePair(np.clip(noisy, 0, 255).astype(np.uint8), np.ascontiguousarray(visible[27:223, 113:481]))
    result = register([pair])
    corners = np.array([[[0, 0], [319, 0], [0, 255], [319, 255]]], np.float64)
    off = cv2.perspectiveTransform(corners, result.matrix) - cv2.perspectiveTransform(corners, truth)
    assert not result.refusal and np.hypot(*off[0].T).mean() < 4.0
    first = cv2.perspectiveTransform(corners, result.candidates[0].matrix) - cv2.perspectiveTransform(corners, truth)
    assert np.hypot(*first[0].T).mean() > 20.0, "the first candidate is right: this tests nothing"
