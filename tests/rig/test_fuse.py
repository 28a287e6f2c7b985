"""``fusepipe fuse`` as a user calls it: images, folders, videos, and what people get wrong."""

import json
import os

import av
import cv2
import numpy as np
import pytest
from helpers.fuse_inputs import image, moving_video


def load(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_two_images_to_one(fuse, tmp_path):
    ir, vis = image(tmp_path / "thermal.png"), image(tmp_path / "day.png", (30, 40, 3))
    code, _, err = fuse(ir, vis, "-o", tmp_path / "new" / "fused.png")
    assert code == 0, err
    assert load(tmp_path / "new" / "fused.png").shape == (30, 40, 3)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["fused.png"]


def test_two_images_into_a_folder_are_named_after_the_visible_one(fuse, tmp_path):
    ir, vis = image(tmp_path / "thermal.png"), image(tmp_path / "day.png")
    assert fuse(ir, vis, "-o", tmp_path / "out", "--model", "mean")[0] == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["day.png"]


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "tif", "webp", "png"])
def test_any_format_in_and_out(fuse, tmp_path, suffix):
    ir, vis = image(tmp_path / f"i.{suffix}"), image(tmp_path / f"v.{suffix}", (30, 40, 3))
    code, _, err = fuse(ir, vis, "-o", tmp_path / f"o.{suffix}", "--model", "mean")
    assert code == 0, err
    assert load(tmp_path / f"o.{suffix}").shape == (30, 40, 3)


def test_folders_are_paired_by_stem_whatever_the_format_and_the_lone_are_named(fuse, tmp_path):
    for stem, suffix in (("1", "png"), ("2", "jpg"), ("10", "tif"), ("only_ir", "png")):
        image(tmp_path / "ir" / f"{stem}.{suffix}")
    for stem, suffix in (("1", "jpg"), ("2", "bmp"), ("10", "png"), ("only_vis", "png")):
        image(tmp_path / "vis" / f"{stem}.{suffix}", (30, 40, 3))
    code, out, err = fuse(tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out")
    assert code == 0, err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["1.png", "10.png", "2.png"]
    assert "no visible partner: only_ir" in out and "no infrared partner: only_vis" in out


def test_sizes_may_differ_between_the_cameras_and_be_odd(fuse, tmp_path):
    ir, vis = image(tmp_path / "i.png", (31, 45)), image(tmp_path / "v.png", (93, 135, 3))
    assert fuse(ir, vis, "-o", tmp_path / "o.png")[0] == 0
    assert load(tmp_path / "o.png").shape == (93, 135, 3)


def test_a_different_shape_is_stretched_with_a_warning(fuse, tmp_path):
    ir, vis = image(tmp_path / "i.png", (30, 30)), image(tmp_path / "v.png", (30, 60))
    code, out, _ = fuse(ir, vis, "-o", tmp_path / "o.png", "--model", "mean")
    assert code == 0 and "differ in shape and there is no calibration" in out


def test_16_bit_infrared_with_a_range(fuse, tmp_path):
    ir, vis = image(tmp_path / "i.png", dtype=np.uint16), image(tmp_path / "v.png")
    code, out, _ = fuse(ir, vis, "-o", tmp_path / "o.png", "--range", 0, 65535)
    assert code == 0 and "warning" not in out
    assert load(tmp_path / "o.png").dtype == np.uint8


def test_grey_option_drops_the_colour(fuse, tmp_path):
    ir, vis = image(tmp_path / "i.png"), image(tmp_path / "v.png", (30, 40, 3))
    assert fuse(ir, vis, "-o", tmp_path / "o.png", "--grey")[0] == 0
    assert load(tmp_path / "o.png").ndim == 2


def test_weighted_colours_fade_where_the_detail_is_infrared(fuse, tmp_path):
    ir = image(tmp_path / "i.png")
    cv2.imwrite(str(tmp_path / "v.png"), np.full((30, 40, 3), (150, 120, 110), np.uint8))
    spread = {}
    for colour in ("visible", "weighted"):
        arguments = (ir, tmp_path / "v.png", "-o", tmp_path / f"{colour}.png", "--model", "mean", "--colour", colour)
        assert fuse(*arguments)[0] == 0
        spread[colour] = np.ptp(load(tmp_path / f"{colour}.png"), axis=-1)
    assert spread["visible"].min() > 20 and spread["weighted"].max() <= 2
    code, out, err = fuse(ir, tmp_path / "v.png", "-o", tmp_path / "x.png", "--grey", "--colour", "weighted")
    assert code == 2 and "--grey and --colour weighted: choose one of them" in out + err


def test_a_folder_to_a_video(fuse, tmp_path):
    for stem in "abc":
        image(tmp_path / "ir" / f"{stem}.png")
        image(tmp_path / "vis" / f"{stem}.png")
    assert fuse(tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "o.mp4", "--model", "max")[0] == 0
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3


def test_a_calibration_moves_the_infrared_image(fuse, tmp_path):
    pixels = np.zeros((30, 40), np.uint8)
    pixels[10, 10] = 255
    cv2.imwrite(str(tmp_path / "i.png"), pixels)
    cv2.imwrite(str(tmp_path / "v.png"), np.zeros((30, 40), np.uint8))
    (tmp_path / "c.yaml").write_text(
        "fusepipe_calibration: 1\nkind: affine\ninfrared: {size: [40, 30]}\nvisible: {size: [40, 30]}\n"
        "matrix: [[1, 0, 5], [0, 1, 3]]\n"
    )
    args = (tmp_path / "i.png", tmp_path / "v.png", "-o", tmp_path / "o.png", "--model", "max")
    assert fuse(*args, "--calibration", tmp_path / "c.yaml")[0] == 0
    assert np.argwhere(load(tmp_path / "o.png") > 0).tolist() == [[13, 15]]


def test_json_is_one_document(fuse, tmp_path):
    ir, vis = image(tmp_path / "i.png"), image(tmp_path / "v.png")
    code, out, err = fuse(ir, vis, "-o", tmp_path / "o.png", "--json")
    record = json.loads(out)
    assert code == 0 and err == "" and record["ok"] and record["rigs"][0]["pairs"] == {"fused": 1}
    code, out, err = fuse(ir, vis, "-o", tmp_path / "o.png", "--json")
    record = json.loads(out)
    assert code == 5 and record["ok"] is False and "--overwrite" in record["errors"][0]["message"]


@pytest.mark.parametrize("case", ["folder", "folder link", "image", "image hard link"])
def test_inputs_are_never_overwritten(fuse, tmp_path, case):
    for band in ("ir", "vis"):
        image(tmp_path / band / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "vis")
    os.link(tmp_path / "vis" / "a.png", tmp_path / "same.png")
    before = (tmp_path / "vis" / "a.png").read_bytes()
    output = {"folder": "vis", "folder link": "link", "image": "vis/a.png", "image hard link": "same.png"}[case]
    inputs = [tmp_path / band / ("" if "folder" in case else "a.png") for band in ("ir", "vis")]
    code, _, err = fuse(*inputs, "-o", tmp_path / output, "--overwrite", "--model", "mean")
    assert code == 5 and "is also an input" in err
    assert (tmp_path / "vis" / "a.png").read_bytes() == before


def test_a_video_input_is_never_overwritten_nor_unlinked(fuse, tmp_path):
    for band in ("ir", "vis"):
        image(tmp_path / band / "a.png")
    assert fuse(tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "v.partial.mkv", "--model", "mean")[0] == 2
    assert fuse(tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "v.mkv", "--model", "mean")[0] == 0
    before = (tmp_path / "v.mkv").read_bytes()
    assert fuse(tmp_path / "v.mkv", tmp_path / "v.mkv", "-o", tmp_path / "v.mkv", "--overwrite")[0] == 5
    (tmp_path / "v.mkv").rename(tmp_path / "w.partial.mkv")
    partial = tmp_path / "w.partial.mkv"
    assert fuse(partial, partial, "-o", tmp_path / "w.mkv", "--overwrite")[0] == 5
    assert partial.read_bytes() == before


def test_a_percent_sign_in_the_output_is_a_percent_sign(fuse, tmp_path):
    for band in ("ir", "vis"):
        image(tmp_path / band / "a.png")
    assert fuse(tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "100%Y.mkv", "--model", "mean")[0] == 0
    assert (tmp_path / "100%Y.mkv").is_file()


def test_names_cannot_forge_messages(fuse, tmp_path):
    code, _, err = fuse("no\nsuch", "v.png", "-o", "o.png")
    assert code == 3 and err.count("\n") == 1 and "no\\nsuch" in err
    image(tmp_path / "ir" / "evil\n\x1b[31mfusepipe: all well.png")
    image(tmp_path / "ir" / "a.png"), image(tmp_path / "vis" / "a.png")
    code, out, _ = fuse(tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "o", "--model", "mean")
    assert code == 0 and "\x1b" not in out and "\nfusepipe: all well" not in out


WRONG = {
    "no such file": (["nowhere.png", "v.png", "-o", "o.png"], 3, "nowhere.png: no such file"),
    "folder and image": (["ir", "v.png", "-o", "o"], 2, "is a folder and"),
    "many to one": (["ir", "vis", "-o", "o.png"], 2, "name a folder"),
    "unknown model": (["i.png", "v.png", "-o", "o.png", "--model", "strem"], 2, "did you mean 'stream'"),
    "unknown option": (["i.png", "v.png", "-o", "o.png", "--modle", "mean"], 2, "--modle"),
    "no output": (["i.png", "v.png"], 2, "-o"),
    "backend of a rule": (["i.png", "v.png", "-o", "o.png", "--model", "mean", "--backend", "openvino"], 2, "mean"),
    "unknown backend": (["i.png", "v.png", "-o", "o.png", "--backend", "openvin"], 2, "openvino"),
    "unknown format": (["i.png", "v.png", "-o", "o.gif"], 2, ".gif"),
    "bad range": (["i.png", "v.png", "-o", "o.png", "--range", "9", "3"], 2, "low below high"),
    "no calibration": (["i.png", "v.png", "-o", "o.png", "--calibration", "no.yaml"], 2, "no.yaml"),
    "nothing in common": (["ir", "other", "-o", "o"], 3, "stem"),
    "empty folder": (["empty", "vis", "-o", "o"], 3, "no images in this folder"),
    "image and video": (["i.png", "v.mkv", "-o", "o.png"], 2, "is an image and"),
    "not an image": (["i.png", "text.png", "-o", "o.png"], 3, "text.png: cannot be decoded: "),
    "unknown type": (["text.doc", "text.doc", "-o", "o.mkv"], 3, "not an image (.bmp, "),
    "image and unknown type": (["i.png", "text.doc", "-o", "o.png"], 2, "text.doc is not, by its suffix"),
    "truncated, with lines of OpenCV": (["half.pgm", "half.pgm", "-o", "o.png"], 3, "half.pgm: cannot be decoded"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_get_one_clear_line_and_leave_nothing(fuse, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "i.png"), image(tmp_path / "v.png")
    image(tmp_path / "ir" / "a.png"), image(tmp_path / "vis" / "a.png"), image(tmp_path / "other" / "b.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.doc").write_text("no image and no video")
    (tmp_path / "half.pgm").write_bytes(b"P5 64 48 255 " + bytes(1000))
    (tmp_path / "v.mkv").write_text("no video")
    before = sorted(tmp_path.rglob("*"))
    args, expected, words = WRONG[case]
    code, out, err = fuse(*args)
    assert code == expected, err
    assert words in err and err.count("\n") == 1 and out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("strict", [(), ("--strict",)])
def test_videos_that_do_not_overlap_are_an_error(fuse, tmp_path, strict):
    ir, vis = moving_video(tmp_path / "ir.mkv"), moving_video(tmp_path / "vis.mkv", start_s=5)
    code, out, err = fuse(ir, vis, "-o", tmp_path / "o.mkv", "--model", "mean", *strict)
    assert code == 3 and "32 single" in out
    assert "no pair was fused" in err.splitlines()[-1] and "--offset" in err.splitlines()[-1]


@pytest.mark.parametrize("start_s", [0.1, 0.3])
def test_a_recording_of_held_pairs_only_is_an_error_with_the_file_completed(fuse, tmp_path, start_s):
    ir, vis = moving_video(tmp_path / "ir.mkv", count=2), moving_video(tmp_path / "vis.mkv", start_s=start_s)
    code, out, err = fuse(ir, vis, "-o", tmp_path / "o.mkv", "--model", "mean")
    assert code == 3 and "held" in out
    assert "no pair was fused" in err.splitlines()[-1] and "held" in err.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"ir.mkv", "vis.mkv", "o.mkv"}
    with av.open(str(tmp_path / "o.mkv")) as container:
        assert len(list(container.decode(video=0))) == 32


def test_videos_that_barely_overlap_end_with_a_loud_line_and_strict_makes_it_an_error(fuse, tmp_path):
    ir, vis = moving_video(tmp_path / "ir.mkv"), moving_video(tmp_path / "vis.mkv", start_s=1)
    code, _, err = fuse(ir, vis, "-o", tmp_path / "o.mkv", "--model", "mean")
    assert code == 0 and "WARNING: fuse: only 7 of 32 possible pairs were fused" in err.splitlines()[-1]
    code, out, err = fuse(ir, vis, "-o", tmp_path / "p.mkv", "--model", "mean", "--strict", "--json")
    assert code == 1 and "only 7 of 32" in err.splitlines()[-1]
    record = json.loads(out)
    assert not record["ok"] and "only 7 of 32" in record["rigs"][0]["shortfall"]
    assert (tmp_path / "p.mkv").exists(), "what was fused is kept"


def test_folders_that_match_partly_end_with_a_loud_line(fuse, tmp_path):
    for number in range(10):
        image(tmp_path / "ir" / f"{number}.png")
        image(tmp_path / "vis" / f"{number + 7}.png")
    args = (tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "o", "--model", "mean")
    code, _, err = fuse(*args)
    assert code == 0 and "only 3 of 10 possible pairs" in err.splitlines()[-1] and "stem" in err
    assert fuse(*args, "--overwrite", "--strict")[0] == 1


def test_cameras_of_different_rates_are_not_a_shortfall(fuse, tmp_path):
    ir, vis = moving_video(tmp_path / "ir.mkv", every=4), moving_video(tmp_path / "vis.mkv")
    code, out, err = fuse(ir, vis, "-o", tmp_path / "o.mkv", "--model", "mean", "--strict")
    assert code == 0 and err == "" and "8 fused, 24 held" in out


def test_a_camera_that_recorded_for_a_quarter_of_the_time_is_a_shortfall(fuse, tmp_path):
    ir, vis = moving_video(tmp_path / "ir.mkv", count=10), moving_video(tmp_path / "vis.mkv", count=200)
    code, _, err = fuse(ir, vis, "-o", tmp_path / "o.mkv", "--model", "mean")
    assert code == 0 and "only 72 of 200 frames show both cameras" in err.splitlines()[-1]


def test_exchanged_inputs_are_named_and_swap_exchanges_them(fuse, tmp_path):
    ir, vis = image(tmp_path / "i.png"), image(tmp_path / "v.png", (30, 40, 3))
    _, right, _ = fuse(ir, vis, "-o", tmp_path / "a.png", "--model", "max")
    _, wrong, _ = fuse(vis, ir, "-o", tmp_path / "b.png", "--model", "max")
    _, swapped, _ = fuse(vis, ir, "-o", tmp_path / "c.png", "--model", "max", "--swap")
    assert "seem to be exchanged" in wrong and "--swap" in wrong
    assert "seem to be" not in right + swapped
    assert (load(tmp_path / "a.png") == load(tmp_path / "c.png")).all()


@pytest.mark.parametrize("kind", ["file", "copy", "folder", "video"])
def test_the_same_input_twice_is_named(fuse, tmp_path, kind):
    first = second = image(tmp_path / "ir" / "a.png")
    if kind == "copy":
        second = tmp_path / "b.png"
        second.write_bytes(first.read_bytes())
    elif kind == "folder":
        first = second = tmp_path / "ir"
    elif kind == "video":
        first = second = moving_video(tmp_path / "v.mkv")
    code, out, err = fuse(first, second, "-o", tmp_path / "o", "--model", "mean")
    assert code == 0 and "infrared and visible are the same" in out, err


@pytest.mark.parametrize("name", ["JET", "RAINBOW"])
@pytest.mark.parametrize("grey", [False, True])
def test_false_colours_of_the_infrared_image_are_named(fuse, tmp_path, name, grey):
    ramp = np.tile(np.arange(160, dtype=np.uint8), (120, 1))
    cv2.imwrite(str(tmp_path / "i.png"), cv2.applyColorMap(ramp, getattr(cv2, f"COLORMAP_{name}")))
    vis = image(tmp_path / "v.png", (120, 160) if grey else (120, 160, 3))
    code, out, err = fuse(tmp_path / "i.png", vis, "-o", tmp_path / "o.png", "--model", "mean")
    assert code == 0 and "false colours" in out and "white-hot" in out and "seem to be" not in out, err


def test_an_offset_pairs_recordings_that_started_apart_and_messages_name_the_option(fuse, tmp_path):
    ir, vis = moving_video(tmp_path / "ir.mkv"), moving_video(tmp_path / "vis.mkv", start_s=5)
    code, _, err = fuse(ir, vis, "-o", tmp_path / "o.mkv", "--model", "mean")
    assert code == 3 and "--offset" in err and "sync." not in err
    code, out, err = fuse(ir, vis, "-o", tmp_path / "p.mkv", "--model", "mean", "--offset", "5s")
    assert code == 0 and "32 pairs fused" in out, err
