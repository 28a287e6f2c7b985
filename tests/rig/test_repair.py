"""Keys of a rig that repair the infrared sensor, or show fixed temperatures."""

import cv2
import numpy as np
import pytest
from helpers.rig_files import RIG, problems

from fusepipe.config.schema import Rig
from fusepipe.core.errors import ConfigError
from fusepipe.rig.api import Pipeline

X, Y = np.meshgrid(np.arange(64.0), np.arange(48.0))
COUNTS = (29315 + 300 * np.sin(X / 9)).astype(np.uint16)  # 0.01 K each: 17 to 23 degrees Celsius


def run(tmp_path, infrared, counts=COUNTS):
    for name, pixels in (("ir", counts), ("vis", np.zeros(counts.shape, np.uint8))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    body = {
        "base_dir": tmp_path,
        "infrared": {"url": "ir.png", **infrared},
        "visible": {"url": "vis.png"},
        "fusion": {"model": "max"},
        "sinks": [{"images": "out"}],
    }
    report = Pipeline(Rig.model_validate(body), overwrite=True).run()
    return cv2.imread(str(next((tmp_path / "out").iterdir())), cv2.IMREAD_GRAYSCALE), report


def test_dead_pixels_that_are_given_are_filled(tmp_path):
    hurt = COUNTS.copy()
    hurt[10, 20] = 0
    shown, _ = run(tmp_path, {"range": [29000, 29700]}, hurt)
    filled, _ = run(tmp_path, {"range": [29000, 29700], "repair": {"dead_pixels": [[20, 10]]}}, hurt)
    found, _ = run(tmp_path, {"range": [29000, 29700], "repair": {"dead_pixels": "auto"}}, hurt)
    assert shown[10, 20] == 0 and abs(int(filled[10, 20]) - int(filled[10, 22])) < 20
    assert np.array_equal(filled, found)


def test_the_flat_field_is_relative_to_the_file_and_has_to_fit(tmp_path):
    shading = -200 * ((X / 32 - 1) ** 2 + (Y / 24 - 1) ** 2)
    cv2.imwrite(str(tmp_path / "flat.png"), (30000 + shading).astype(np.uint16))
    counts = np.rint(29315 + shading).astype(np.uint16)
    keys = {"range": [28900, 29700], "repair": {"shading": "flat.png"}}
    shown, _ = run(tmp_path, keys, counts)
    assert np.ptp(shown) < 20 < 60 < np.ptp(run(tmp_path, {"range": [28900, 29700]}, counts)[0])
    with pytest.raises(ConfigError, match=r"flat.png is 64x48, but the camera's images are 32x24: use an image"):
        run(tmp_path, keys, counts[::2, ::2])
    with pytest.raises(
        ConfigError, match=r"flat.png has 16-bit counts, but the camera's images have 8-bit ones: use an"
    ):
        run(tmp_path, {"repair": {"shading": "flat.png"}}, (counts // 256).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "preview.png"), np.full(counts.shape, 117, np.uint8))
    with pytest.raises(ConfigError, match=r"preview.png has 8-bit counts, but the camera's images have 16-bit ones"):
        run(tmp_path, {"repair": {"shading": "preview.png"}}, counts)
    with pytest.raises(ConfigError, match=r"repair.shading: .*none.png"):
        run(tmp_path, {"repair": {"shading": "none.png"}})


def test_temperatures_are_fixed_levels_of_a_camera_with_a_radiometry(tmp_path):
    keys = {"agc": {"temperatures": [20, 25]}, "radiometry": {"unit": "kelvin", "gain": 0.01}}
    shown, _ = run(tmp_path, keys)
    celsius = COUNTS * 0.01 - 273.15
    assert np.abs(shown - np.clip((celsius - 20) / 5 * 255, 0, 255)).max() < 1
    with pytest.raises(ConfigError, match=r"agc.temperatures needs a radiometry"):
        run(tmp_path, {"agc": {"temperatures": [20, 25]}})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("repair: {stripes: diagonal}", "repair.stripes: should be"),
        ("agc: {temperatures: [5, 2]}", "agc.temperatures: should be [low, high] with low below high"),
        ("agc: {temperatures: [2, 5], mode: linear}", "temperatures are fixed levels: remove mode, or temperatures"),
        ("agc: {temperatures: [2, 5]}, range: [1, 5]", "range fixes the levels"),
    ],
)
def test_what_is_wrong_with_a_key_is_said(tmp_path, keys, message):
    text = RIG.replace("infrared: {url: ir.mkv}", f"infrared: {{url: ir.mkv, {keys}}}").replace("SECTION", "output: {}")
    found = problems(tmp_path, text.replace("SINK", "{file: o.mkv}"))
    assert any(message in problem for problem in found), found
