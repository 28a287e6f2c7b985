"""CBF, GTF and JSRSD: against published results, and the properties of each method."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fusepipe.core.frames import Luma8
from fusepipe.core.models import MODELS, NETWORKS
from fusepipe.evaluation.baselines.cbf import cbf
from fusepipe.evaluation.baselines.gtf import gtf
from fusepipe.evaluation.baselines.jsrsd import jsrsd
from fusepipe.evaluation.baselines.load import load_baseline
from fusepipe.evaluation.baselines.sparse import k_svd, pursue

TNO = ("Kaptein_1123", "Marne_04", "Movie_18", "bunker", "heather", "lake", "sandpath", "soldier_in_trench_1")
ROADSCENE = (
    *("FLIR_00006", "FLIR_00211", "FLIR_00306", "FLIR_00497", "FLIR_00594"),
    *("FLIR_01274", "FLIR_03801", "FLIR_04215", "FLIR_04370", "FLIR_07202"),
)


def grey(path: Path) -> Luma8:
    image: Luma8 = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None, path
    return image


def pair(data_dir: Path, data_set: str, name: str) -> tuple[Luma8, Luma8]:
    suffix = "jpg" if data_set == "roadscene" else "png"
    infrared, visible = (grey(data_dir / data_set / band / f"{name}.{suffix}") for band in ("ir", "vis"))
    return infrared, visible


def agreement(fused: Luma8, published: Luma8) -> tuple[float, float]:
    """(PSNR in dB, correlation) of our result with a published one."""
    ours, theirs = fused.astype(float), published.astype(float)
    error = np.mean((ours - theirs) ** 2)
    psnr = 10 * np.log10(255**2 / error) if error else np.inf
    return float(psnr), float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])


def textured(height: int, width: int, seed: int) -> Luma8:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (height, width)), (0, 0), 2.0)
    return (120 + 40 * noise / noise.std()).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("model", ["cbf", "gtf", "jsrsd"])
def test_the_registry_leads_here(model: str) -> None:
    assert model in MODELS and model not in NETWORKS
    with load_baseline(model) as fuser:
        assert (fuser.info.model, fuser.info.backend, fuser.info.precision) == (model, "numpy", "uint8")


# --- CBF ---------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize("name", TNO)
def test_cbf_is_the_published_one_bit_for_bit(name: str, data_dir: Path) -> None:
    published = grey(data_dir / "reference_results" / "CBF_tno" / f"{name}.png")
    assert np.array_equal(cbf(*pair(data_dir, "tno/pairs", name)), published)


@pytest.mark.data
@pytest.mark.parametrize("name", ROADSCENE)
def test_cbf_agrees_on_roadscene(name: str, data_dir: Path) -> None:
    """Not bit for bit: the published ones were made from another copy of the infrared images."""
    published = grey(data_dir / "reference_results" / "CBF_roadscene" / f"{name}.png")
    psnr, correlation = agreement(cbf(*pair(data_dir, "roadscene", name)), published)
    assert psnr >= 42.0 and correlation >= 0.999


def test_cbf_takes_the_source_with_detail() -> None:
    flat = np.full((40, 50), 100, np.uint8)
    texture = textured(40, 50, 3)
    fused = cbf(flat, texture)
    assert np.abs(fused.astype(int) - texture).mean() < 2.0
    assert np.array_equal(cbf(texture, flat), fused), "the sources are treated alike"
    # two flat images have no detail to weigh: half and half
    assert np.array_equal(cbf(flat, flat + 50), flat + 25)


# --- GTF ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ROADSCENE)
def test_gtf_agrees_with_published_results(name: str, data_dir: Path) -> None:
    published = grey(data_dir / "reference_results" / "GTF_roadscene" / f"{name}.png")
    psnr, correlation = agreement(gtf(*pair(data_dir, "roadscene", name)), published)
    assert psnr >= 31.0 and correlation >= 0.99


def test_gtf_keeps_infrared_brightness_and_visible_gradients() -> None:
    """A large bright square of the infrared image over a textured visible one."""
    infrared = np.full((96, 96), 60, np.uint8)
    infrared[24:72, 24:72] = 180
    visible = (textured(96, 96, 1) // 8 + 60).astype(np.uint8)
    fused = gtf(infrared, visible).astype(float)
    inside, outside = np.s_[34:62, 34:62], np.s_[2:14, 2:94]
    assert fused[inside].mean() - fused[outside].mean() > 80
    ours, theirs = (np.diff(x.astype(float), axis=1)[inside] for x in (fused, visible))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95
    assert np.array_equal(gtf(visible, visible), visible)


# --- JSRSD -------------------------------------------------------------------------------------


def test_pursuit_finds_what_a_signal_is_made_of() -> None:
    random = np.random.default_rng(0)
    dictionary = random.normal(size=(40, 30)).astype(np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    signals = np.stack([3 * dictionary[5] - 2 * dictionary[17], dictionary[39], 0 * dictionary[0]])
    code = pursue(signals, dictionary, 2)
    assert set(code.atoms[0]) == {5, 17} and sorted(code.values[0]) == pytest.approx([-2, 3], abs=1e-4)
    assert code.atoms[1, 0] == 39 and code.values[1] == pytest.approx([1, 0], abs=1e-5)
    assert not code.values[2].any()


def test_joint_pursuit_separates_common_from_own() -> None:
    dictionary = np.eye(8, dtype=np.float32)
    first, second = np.zeros(8, np.float32), np.zeros(8, np.float32)
    first[[2, 3]] = 1.0, 0.5
    second[[2, 6]] = 1.0, 0.25
    code = pursue(np.concatenate([first, second])[None], dictionary, 3, joint=True)
    found = dict(zip(code.atoms[0].tolist(), code.values[0].tolist(), strict=True))
    assert found == pytest.approx({2: 2**0.5, 8 + 3: 0.5, 16 + 6: 0.25}, abs=1e-6)


def test_training_lowers_the_error() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(size=(12, 16)).astype(np.float32)
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    picks = np.stack([random.permutation(12)[:2] for _ in range(400)])
    signals = np.einsum("nk,nkd->nd", random.normal(size=(400, 2)), truth[picks]).astype(np.float32)
    start = signals[:12] / np.linalg.norm(signals[:12], axis=1, keepdims=True)

    def error(dictionary: np.ndarray) -> float:
        code = pursue(signals, dictionary, 2)
        return float(np.square(signals - np.einsum("nk,nkd->nd", code.values, dictionary[code.atoms])).mean())

    trained = k_svd(signals, start, 2, 10)
    assert error(trained) < 0.5 * error(start)
    assert np.linalg.norm(trained, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_jsrsd_keeps_what_only_one_source_has() -> None:
    infrared, visible = np.full((40, 48), 80, np.uint8), np.full((40, 48), 80, np.uint8)
    infrared[8:20, 8:20] = 200
    visible[22:34, 28:40] = 20
    fused = jsrsd(infrared, visible).astype(int)
    assert fused[10:18, 10:18].mean() > 150
    assert fused[24:32, 30:38].mean() < 60


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["Kaptein_1123", "Marne_04"])
def test_jsrsd_resembles_published_results(name: str, data_dir: Path) -> None:
    """The dictionary is random, and brightness with it: the structure agrees, the level only roughly."""
    published = grey(data_dir / "reference_results" / "JSRSD_tno" / f"{name}.png")
    psnr, correlation = agreement(jsrsd(*pair(data_dir, "tno/pairs", name)), published)
    assert psnr >= 20.0 and correlation >= 0.94
