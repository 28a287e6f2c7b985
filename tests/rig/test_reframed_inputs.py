"""Two panels in one input, and cameras that hang upside down, as a user fuses them."""

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from fusepipe.config.schema import Rig, SourceConfig

PANELS = np.random.default_rng(2).integers(0, 256, (96, 64), dtype=np.uint8)
THERMAL, DAY = PANELS[:48], PANELS[48:]
CROPS = ["--infrared-crop", 0, 0, 64, 48, "--visible-crop", 0, 48, 64, 48]


def fused(fuse, folder, *args):
    """The image that two inputs give, and the standard output."""
    code, out, err = fuse(*args, "-o", folder / "fused.png", "--model", "max", "--overwrite")
    assert code == 0, err
    return cv2.imread(str(folder / "fused.png"), cv2.IMREAD_UNCHANGED), out


def test_two_panels_of_one_image_and_one_of_them_turned(fuse, tmp_path):
    cv2.imwrite(str(tmp_path / "both.png"), PANELS)
    both = tmp_path / "both.png"
    image, out = fused(fuse, tmp_path, both, both, *CROPS)
    assert np.array_equal(image, np.maximum(THERMAL, DAY)) and "are the same" not in out
    turned, _ = fused(fuse, tmp_path, both, both, *CROPS, "--infrared-rotate", 180, "--visible-flip", "vertical")
    assert np.array_equal(turned, np.maximum(THERMAL[::-1, ::-1], DAY[::-1]))


def test_the_same_part_of_the_same_image_is_still_named(fuse, tmp_path):
    cv2.imwrite(str(tmp_path / "both.png"), PANELS)
    crops = ["--infrared-crop", 0, 0, 64, 48, "--visible-crop", 0, 0, 64, 48]
    _, out = fused(fuse, tmp_path, tmp_path / "both.png", tmp_path / "both.png", *crops)
    assert "infrared and visible are the same" in out and "crop each" in out


def test_a_crop_that_does_not_fit_is_one_line_with_the_size(fuse, tmp_path):
    cv2.imwrite(str(tmp_path / "both.png"), PANELS)
    both = tmp_path / "both.png"
    code, out, err = fuse(both, both, "-o", tmp_path / "o.png", "--infrared-crop", 0, 49, 64, 48)
    assert code == 3 and out == "" and len(err.splitlines()) == 1
    assert "both.png: the crop of 64x48 at (0, 49) does not fit into the image of 64x96" in err


def test_a_telemetry_row_causes_no_warning_once_it_is_cut_off(fuse, tmp_path):
    counts = np.linspace(29000, 30500, 64 * 48).astype(np.uint16).reshape(48, 64)
    telemetry = np.random.default_rng(3).integers(0, 65536, (8, 64), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "ir.png"), np.vstack([counts, telemetry]))
    cv2.imwrite(str(tmp_path / "vis.png"), DAY)
    inputs = tmp_path / "ir.png", tmp_path / "vis.png", "--agc", "off"
    assert "29014..30484" in fused(fuse, tmp_path, *inputs, "--infrared-crop", 0, 0, 64, 48)[1]
    assert "counts" not in fused(fuse, tmp_path, *inputs)[1], "noise hides the narrow range of the image"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"crop": [0, 0, 0, 10]}, "greater than or equal to 1"),
        ({"crop": [-1, 0, 4, 10]}, "greater than or equal to 0"),
        ({"crop": [0, 0, 4]}, "crop"),
        ({"rotate": 45}, "0, 90, 180 or 270"),
        ({"rotate": True}, "should be a number"),
        ({"flip": "left"}, "'horizontal' or 'vertical'"),
    ],
)
def test_impossible_settings(keys, message):
    with pytest.raises(ValidationError, match=message):
        SourceConfig.model_validate({"url": "a.mkv", **keys})


def test_synthetic_sources_are_not_cropped():
    with pytest.raises(ValidationError, match="crop is for cameras and files; remove it"):
        SourceConfig.model_validate({"url": "synthetic://street", "crop": [0, 0, 4, 4]})


def test_one_device_cannot_be_opened_for_both_cameras():
    camera = {"url": "/dev/video7"}
    with pytest.raises(ValidationError, match=r"/dev/video7 is given for both cameras.*opened only once"):
        Rig.model_validate({"infrared": {**camera, "crop": [0, 0, 4, 4]}, "visible": camera})
