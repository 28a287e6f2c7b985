"""``fusepipe fuse --output``: formats and names of videos, images and folders."""

import av
import numpy as np
import pytest
from helpers.fuse_inputs import image, moving_video


@pytest.fixture
def folders(tmp_path):
    """Two folders of five images with common stems."""
    for number in range(5):
        image(tmp_path / "ir" / f"{number}.png", (48, 64))
        image(tmp_path / "vis" / f"{number}.png", (48, 64, 3))
    return tmp_path / "ir", tmp_path / "vis"


@pytest.mark.parametrize(
    ("suffix", "muxer", "codec"),
    [
        ("mkv", "matroska", "h264"),
        ("mp4", "mp4", "h264"),
        ("mov", "mov", "h264"),
        ("avi", "avi", "h264"),
        ("webm", "webm", "vp9"),
        ("AVI", "avi", "h264"),
    ],
)
def test_every_video_format_that_users_expect_is_written(fuse, tmp_path, folders, suffix, muxer, codec):
    output = tmp_path / f"v.{suffix}"
    code, _, err = fuse(*folders, "-o", output, "--model", "mean")
    assert code == 0 and output.is_file(), err
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert muxer in container.format.name and stream.codec_context.name == codec
        times = [float(frame.time) for frame in container.decode(stream)]
    assert np.diff(times) == pytest.approx([0.04] * 4, abs=0.002)


@pytest.mark.parametrize("name", ["v.gif", "v.ts", "v.flv", "v.wmv", "v.m4v", "v.json", "-", "", " "])
def test_other_names_of_outputs_are_refused_in_a_line_with_what_is_possible(fuse, tmp_path, folders, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    code, _, err = fuse(*folders, "-o", name, "--model", "mean")
    assert code == 2 and len(err.splitlines()) == 1
    assert ".webm" in err if name.startswith("v.") else "name" in err
    assert {p.name for p in tmp_path.iterdir()} == {"ir", "vis"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v.3gp", ".3gp files are not written"),
        ("v.3g2", ".3g2 files are not written"),
        (".mp4", "only a suffix"),
        ("v.avi ", "ends in a space"),
        ("rtsp://admin:hunterseven@127.0.0.1:8554/roof", "is a URL"),
        ("http://127.0.0.1:8080/v.mkv", "is a URL"),
        ("rtsp//admin:hunterseven@h/x/", "is a URL"),
        ("rtsp+push:admin:hunterseven@h", "is a URL"),
        ("file:///x/v.mkv", "is a URL"),
    ],
)
def test_invalid_output_names_are_refused(fuse, tmp_path, folders, monkeypatch, name, expected):
    monkeypatch.chdir(tmp_path)
    code, out, err = fuse(*folders, "-o", name, "--model", "mean")
    assert code == 2 and len(err.splitlines()) == 1 and expected in err and "hunterseven" not in out + err
    assert {p.name for p in tmp_path.iterdir()} == {"ir", "vis"}


@pytest.mark.parametrize("name", ["out.v2/", "there.gif", "2024.05.01", "out"])
def test_folders_may_have_dots_in_their_names(fuse, tmp_path, folders, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.gif").mkdir()
    code, _, err = fuse(*folders, "-o", name, "--model", "mean")
    assert code == 0 and len(list((tmp_path / name).iterdir())) == 5, err


@pytest.mark.parametrize("name", ["dir.mkv", "dir.MP4", "dir.png"])
def test_an_existing_folder_with_the_name_of_a_file_is_not_filled_with_images(
    fuse, tmp_path, folders, monkeypatch, name
):
    """Unless a slash says that the folder is meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    still = [folder / "0.png" for folder in folders]
    video = [moving_video(tmp_path / "ir.mkv", count=5), moving_video(tmp_path / "vis.mkv", count=5)]
    for inputs in (folders, still, video):
        code, out, err = fuse(*inputs, "-o", name, "--model", "mean", "--overwrite")
        assert (code, out, len(err.splitlines())) == (5, "", 1), err
        assert f"{name}: is a folder; name a" in err and f"or write {name}/ for images in this folder" in err
    assert list((tmp_path / name).iterdir()) == []
    assert fuse(*folders, "-o", f"{name}/", "--model", "mean")[0] == 0
    assert len(list((tmp_path / name).iterdir())) == 5
