"""The options of ``fusepipe fuse`` for what a camera has keys for: telemetry, noise, and any other with --set."""

import cv2
import numpy as np
import pytest
from helpers.telemetry_rows import lepton_words, rows_of

from fusepipe.core.errors import UsageError
from fusepipe.rig.camera_settings import camera_settings

Y, X = np.mgrid[:60, :160]
SCENE = (8000 + 3 * X + 2 * Y).astype(np.uint16)


def written(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def fused(fuse, folder, infrared, *options, visible=None):
    """The picture that these images give with ``max``, and what the command printed."""
    files = written(folder / "i.png", infrared), written(folder / "v.png", np.zeros((60, 160), np.uint8))
    if visible is not None:
        written(files[1], visible)
    code, out, err = fuse(*files, "-o", folder / "o.png", "--model", "max", "--overwrite", *options)
    assert code == 0, err
    return cv2.imread(str(folder / "o.png"), cv2.IMREAD_GRAYSCALE), out


def test_telemetry_rows_of_an_image_are_cut_off(fuse, tmp_path):
    with_rows = np.vstack([SCENE, rows_of(lepton_words(), 160)])
    clean, _ = fused(fuse, tmp_path, SCENE)
    cut, out = fused(fuse, tmp_path, with_rows, "--telemetry", "lepton")
    assert (cut == clean).all() and "warning" not in out
    by_key, _ = fused(fuse, tmp_path, with_rows, "--set", "infrared.telemetry={camera: other, rows: 2}")
    assert (by_key == clean).all()


def test_noise_of_the_named_camera_is_smoothed(fuse, tmp_path):
    noisy = (100 + np.random.default_rng(0).normal(0, 12, (60, 160))).clip(0, 255).astype(np.uint8)
    plain, _ = fused(fuse, tmp_path, noisy)
    other, _ = fused(fuse, tmp_path, noisy, "--denoise", "visible")
    assert (plain == other).all()
    for camera in ("infrared", "both"):
        smooth, _ = fused(fuse, tmp_path, noisy, "--denoise", camera)
        assert smooth.std() < 0.6 * plain.std()
    visible, _ = fused(fuse, tmp_path, np.zeros_like(noisy), "--denoise", "both", visible=noisy)
    assert visible.std() < 0.6 * plain.std()


def test_repair_and_polarity_by_key(fuse, tmp_path):
    broken = SCENE.copy()
    broken[20, 30] = 8900
    levels = ("--range", 8000, 9000)
    clean, _ = fused(fuse, tmp_path, SCENE, *levels)
    dead, _ = fused(fuse, tmp_path, broken, *levels)
    assert dead[20, 30] > clean[20, 30] + 100
    repaired, _ = fused(fuse, tmp_path, broken, *levels, "--set", "infrared.repair.dead_pixels=[[30, 20]]")
    assert (np.abs(repaired.astype(int) - clean) <= 1).all()
    cold, _ = fused(fuse, tmp_path, SCENE, *levels, "--set", "infrared.polarity=black-hot")
    assert (cold == 255 - clean).all()


def test_a_raw_file_by_its_layout(fuse, tmp_path):
    np.stack([SCENE + 10 * index for index in range(4)]).astype("<u2").tofile(tmp_path / "ir.raw")
    for index in range(4):
        written(tmp_path / "vis" / f"{index}.png", np.zeros((60, 160), np.uint8))
    code, _, err = fuse(tmp_path / "ir.raw", tmp_path / "vis", "-o", tmp_path / "out")
    assert code == 2 and "is not; give two images" in err
    pages = [np.full((60, 160), 10 * index, np.uint8) for index in range(4)]
    assert cv2.imwritemulti(str(tmp_path / "vis.tif"), pages)
    keys = ("infrared.raw={size: 160x60}", "infrared.fps=10", "visible.fps=10")
    options = [word for key in keys for word in ("--set", key)]
    code, out, err = fuse(tmp_path / "ir.raw", tmp_path / "vis.tif", "-o", tmp_path / "out", "--model", "max", *options)
    assert code == 0 and "4 pairs fused" in out, err


def test_keys_are_nested_as_in_a_rig_file():
    words = ["infrared.repair.stripes=both", "infrared.repair.dead_pixels=auto", "visible.crop=[0, 8, 64, 48]"]
    assert camera_settings(words) == {
        "infrared": {"repair": {"stripes": "both", "dead_pixels": "auto"}},
        "visible": {"crop": [0, 8, 64, 48]},
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["infrared.agc"], "write CAMERA.KEY=VALUE"),
        (["infrared=auto"], "write CAMERA.KEY=VALUE"),
        (["infrared.repair.=auto"], "write CAMERA.KEY=VALUE"),
        (["infared.agc=auto"], "did you mean 'infrared'?"),
        (["infrared.denoize=auto"], "did you mean 'denoise'?"),
        (["infrared.url=a.mkv"], "unknown key 'url'"),
        (["infrared.agc="], "the value is missing"),
        (["infrared.crop=[0, 1"], "is no value as in a rig file"),
        (["infrared.agc=auto", "infrared.agc=local"], "already has a value"),
        (["infrared.agc=auto", "infrared.agc.mode=local"], "already has a value"),
    ],
)
def test_a_word_that_sets_nothing_is_named(words, message):
    with pytest.raises(UsageError) as raised:
        camera_settings(words)
    assert f"--set {words[-1]}: " in str(raised.value) and message in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--agc", "linear", "--set", "infrared.agc=local"), "--set infrared.agc: an option of its own sets it too"),
        (("--set", "infrared.agc=lokal"), "'lokal' Input should be 'auto', 'linear', 'plateau', 'local' or 'off'"),
        (("--set", "infrared.repair.stripe=both"), "infrared.repair.stripe: unknown key (did you mean 'stripes'?)"),
        (
            ("--set", "infrared.agc.limit=3"),
            "infrared.agc.limit: unknown key (known: mode, adapt, temperatures, region)",
        ),
        (("--set", "infrared.raw.siz=160x60"), "infrared.raw.siz: unknown key (did you mean 'size'?)"),
        (("--set", "infrared.radiometry.gain=0.01"), "infrared.radiometry.unit: is missing"),
        (("--set", "visible.transport=tcp"), "visible: transport is for live cameras"),
    ],
)
def test_a_key_that_does_not_fit_is_refused_in_one_line(fuse, tmp_path, options, message):
    files = written(tmp_path / "i.png", SCENE), written(tmp_path / "v.png", np.zeros((60, 160), np.uint8))
    code, _, err = fuse(*files, "-o", tmp_path / "o.png", "--model", "max", *options)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1, err
