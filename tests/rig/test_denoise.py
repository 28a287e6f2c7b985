"""``denoise: auto`` of a rig: a noisy camera is smoothed before fusion, a clean one is left as it is."""

import cv2
import numpy as np
import pytest
from helpers.rig_files import RIG, problems, rig_of

from fusepipe.config.schema import Rig
from fusepipe.rig.api import Pipeline

X, Y = np.meshgrid(np.arange(160.0), np.arange(120.0))
SCENE = 60 + X / 4 + 60 * (((X - 90) ** 2 + (Y - 60) ** 2) < 25**2)


def fuse(tmp_path, noise, **keys):
    """The mean of two cameras with noise of (infrared, visible)."""
    for name, deviation, seed in (("ir", noise[0], 1), ("vis", noise[1], 2)):
        grain = np.random.default_rng(seed).normal(0, deviation, SCENE.shape)
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.rint(SCENE + grain).clip(0, 255).astype(np.uint8))
    body = {
        "base_dir": tmp_path,
        "infrared": {"url": "ir.png", "denoise": keys.get("infrared", "off")},
        "visible": {"url": "vis.png", "denoise": keys.get("visible", "off")},
        "fusion": {"model": "mean"},
        "sinks": [{"images": "out"}],
    }
    Pipeline(Rig.model_validate(body), overwrite=True).run()
    shown = cv2.imread(str(next((tmp_path / "out").iterdir())), cv2.IMREAD_GRAYSCALE)
    return shown, float(np.sqrt(((shown - SCENE) ** 2).mean()))


@pytest.mark.parametrize("camera", ["infrared", "visible"])
def test_a_noisy_camera_is_smoothed_if_its_key_asks_for_it(tmp_path, camera):
    noise = (10.0, 0.0) if camera == "infrared" else (0.0, 10.0)
    _, before = fuse(tmp_path, noise)
    other = "visible" if camera == "infrared" else "infrared"
    _, wrong = fuse(tmp_path, noise, **{other: "auto"})
    _, after = fuse(tmp_path, noise, **{camera: "auto"})
    assert after < 0.7 * before and wrong == pytest.approx(before)


def test_clean_cameras_give_the_same_bytes(tmp_path):
    plain, _ = fuse(tmp_path, (1.5, 1.5))
    asked, _ = fuse(tmp_path, (1.5, 1.5), infrared="auto", visible="auto")
    assert np.array_equal(plain, asked)


def test_the_key_is_off_or_auto(tmp_path):
    assert rig_of(tmp_path).infrared.denoise == "off"
    text = RIG.replace("{url: ir.mkv}", "{url: ir.mkv, denoise: 3}").replace("SECTION", "output: {}")
    assert any(
        "denoise: should be 'off' or 'auto'" in one for one in problems(tmp_path, text.replace("SINK", "{file: o.mkv}"))
    )
