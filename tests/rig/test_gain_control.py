"""Gain control of a run: unknown 16-bit scenes look right without a key, like the same scene in 8 bits."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from helpers.rig_files import RIG, problems, rig_of

from fusepipe.commands.fuse import command
from fusepipe.config.gain import AgcConfig
from fusepipe.config.sources import SourceConfig
from fusepipe.core.units import S
from fusepipe.rig.fuse import FuseOptions, fuse_pipeline

GREY = cv2.circle(np.full((120, 160), 60, np.uint8), (110, 75), 30, 230, -1)
COUNTS = (29315 + (GREY.astype(float) - 60) / 170 * 1500).astype(np.uint16)


def fuse(tmp_path, infrared, visible, **options):
    for name, pixels in (("ir", infrared), ("vis", visible)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    inputs = tmp_path / "ir.png", tmp_path / "vis.png", tmp_path / "out.png"
    report = fuse_pipeline(FuseOptions(*inputs, model="max", overwrite=True, **options)).run()
    return cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_GRAYSCALE), report


def test_a_sliver_of_16_bits_is_shown_without_a_key(tmp_path):
    dark = np.zeros_like(GREY)
    fused, report = fuse(tmp_path, COUNTS, dark)
    assert report.warnings == [] and report.gain.startswith("gain control: linear")
    assert fused[75, 110] > 220 and fused[10, 10] < 40
    fog, report = fuse(tmp_path, COUNTS, dark, agc="off")
    assert np.ptp(fog) < 10 and report.gain == "" and len(report.warnings) == 1
    fixed, report = fuse(tmp_path, COUNTS, dark, value_range=(29000, 31000))
    assert fixed[75, 110] == 231 and report.gain == ""


def test_8_bits_are_unchanged_unless_asked(tmp_path):
    narrow = (GREY // 8 + 100).astype(np.uint8)
    dark = np.zeros_like(GREY)
    assert np.array_equal(fuse(tmp_path, narrow, dark)[0], narrow)
    fused, report = fuse(tmp_path, narrow, dark, agc="auto")
    assert np.ptp(fused) > 200 and report.gain.startswith("gain control: linear")
    assert np.array_equal(fuse(tmp_path, narrow, dark, polarity="black-hot")[0], 255 - narrow)


@pytest.mark.parametrize("name", ["thermal/boson_radiometric.tiff", "calibration_boards/thermal16/000000029.png"])
def test_files_of_real_cameras_show_their_objects_as_well_as_with_a_range_by_hand(tmp_path, data_dir, name):
    counts = cv2.imread(str(data_dir / name), cv2.IMREAD_UNCHANGED)
    low, high = (int(value) for value in np.percentile(counts, [0.5, 99.5]))
    dark = np.zeros(counts.shape, np.uint8)
    by_hand, _ = fuse(tmp_path, counts, dark, value_range=(low, high))
    auto, _ = fuse(tmp_path, counts, dark, agc="auto")
    hot = counts > np.percentile(counts, 97)
    near = cv2.dilate(hot.astype(np.uint8), np.ones((31, 31))).astype(bool) & ~cv2.dilate(
        hot.astype(np.uint8), np.ones((9, 9))
    ).astype(bool)
    contrast = [float(one[hot].mean()) - float(one[near].mean()) for one in (by_hand, auto)]
    assert contrast[1] > 0.75 * contrast[0] > 0


def test_the_command_has_the_options(tmp_path):
    cv2.imwrite(str(tmp_path / "ir.png"), COUNTS)
    cv2.imwrite(str(tmp_path / "vis.png"), GREY)
    files = [str(tmp_path / name) for name in ("ir.png", "vis.png", "out.png")]
    words = [*files[:2], "-o", files[2], "--model", "mean", "--agc", "plateau", "--polarity", "black-hot"]
    result = CliRunner().invoke(command, [*words, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rigs"][0]["gain"] == "gain control: plateau"


def infrared(keys):
    return f"infrared: {{url: ir.mkv, {keys}}}"


def test_a_word_is_the_mode(tmp_path):
    rig = rig_of(tmp_path, "output: {}")
    assert rig.infrared.agc is None and rig.infrared.polarity == "white-hot"
    words = SourceConfig.model_validate({"url": "ir", "agc": "plateau"}).agc
    assert words == AgcConfig(mode="plateau") and AgcConfig().adapt_ns == S


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("agc: bright", "agc: should be 'auto', 'linear'"),
        ("agc: {mode: linear, region: [0, 0, 0, 4]}", "agc.region[2]"),
        ("agc: {mode: linear, adapt: 3}", "agc.adapt"),
        ("agc: linear, range: [1, 5]", "range fixes the levels that agc: linear would follow; remove one of them"),
    ],
)
def test_what_is_wrong_with_a_key_is_said(tmp_path, keys, message):
    text = RIG.replace("infrared: {url: ir.mkv}", infrared(keys)).replace("SECTION", "output: {}")
    found = problems(tmp_path, text.replace("SINK", "{file: o.mkv}"))
    assert any(message in problem for problem in found), found
    visible = RIG.replace("visible: {url: vis.mkv}", "visible: {url: vis.mkv, agc: auto}")
    found = problems(tmp_path, visible.replace("SECTION", "output: {}").replace("SINK", "{file: o.mkv}"))
    assert any("visible.agc is for the infrared camera" in problem for problem in found), found


Y, X = np.mgrid[:120, :160]
SCENE = (7000 + 4 * X + 3 * Y + np.random.default_rng(4).integers(0, 6, X.shape)).astype(np.uint16)  # 14 bits
SPOT = (X - 110) ** 2 + (Y - 75) ** 2 < 100


def spoiled(name):
    made = SCENE.copy()
    if name == "saturated":
        made[SPOT] = 16383
    elif name == "1,000 K":
        made[SPOT] = 60000
    elif name == "dead pixels":
        made[::11, ::13], made[5::11, 7::13] = 0, 65535
    return made


@pytest.mark.parametrize("name", ["as it is", "saturated", "1,000 K", "dead pixels"])
def test_a_hard_scene_keeps_its_contrast_without_a_false_warning(tmp_path, name):
    fused, report = fuse(tmp_path, spoiled(name), np.zeros_like(GREY))
    assert report.warnings == []
    rest = fused[~cv2.dilate(SPOT.astype(np.uint8), np.ones((5, 5))).astype(bool)]
    assert np.percentile(rest, 95) - np.percentile(rest, 5) > 60, "the rest of the scene is seen"
    assert name not in ("saturated", "1,000 K") or fused[SPOT].min() >= 230


def test_the_rest_is_seen_beside_a_large_area_that_a_14_bit_camera_saturates(tmp_path):
    counts = SCENE.copy()
    counts[:, 110:] = 16383
    fused, report = fuse(tmp_path, counts, np.zeros_like(GREY))
    rest = fused[:, :105]
    assert report.warnings == [] and fused[:, 115:].min() >= 230
    assert np.percentile(rest, 95) - np.percentile(rest, 5) > 100


@pytest.mark.parametrize("value", [0, 7000, 65535])
def test_a_constant_image_is_plain_and_causes_no_warning(tmp_path, value):
    fused, report = fuse(tmp_path, np.full_like(SCENE, value), np.zeros_like(GREY))
    assert report.warnings == [] and np.ptp(fused) == 0


@pytest.mark.parametrize(
    ("counts", "warning"),
    [
        ((SCENE + np.uint16(8800)) % 16384, "infrared: the counts seem to wrap around at 16384"),
        (SCENE + np.uint16(58000), "infrared: the counts seem to wrap around at 65536"),
        (SCENE.byteswap(), "set --byte-order little"),
    ],
)
def test_counts_that_wrap_around_and_swapped_bytes_are_one_warning(tmp_path, counts, warning):
    _, report = fuse(tmp_path, counts, np.zeros_like(GREY))
    assert len(report.warnings) == 1 and warning in report.warnings[0]
