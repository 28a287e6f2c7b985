"""``fusepipe fuse``: which images are paired, and inputs that it does not take."""

import cv2
import numpy as np
import pytest


def write_grey(folder, stems):
    """Images of one value each: 0, 100, ..."""
    folder.mkdir()
    for number, stem in enumerate(stems):
        cv2.imwrite(str(folder / f"{stem}.png"), np.full((48, 64), 100 * number, np.uint8))
    return folder


@pytest.mark.parametrize("url", ["rtsp://admin:secret@127.0.0.1/ir", "synthetic://street", "http://h/a.mjpg"])
def test_urls_are_refused_with_the_command_that_takes_them(fuse, tmp_path, url):
    code, _, err = fuse(url, write_grey(tmp_path / "vis", "a"), "-o", tmp_path / "o.png")
    assert code == 2 and "use fusepipe run" in err and "secret" not in err


@pytest.mark.parametrize(
    ("infrared", "visible"),
    [
        (["001_ir", "002_ir"], ["001_vis", "002_vis"]),
        (["IR1", "IR2"], ["VIS1", "VIS2"]),
        (["a_T", "b_T"], ["a_V", "b_V"]),
    ],
)
def test_stems_that_differ_by_the_camera_are_paired(fuse, tmp_path, infrared, visible):
    folders = write_grey(tmp_path / "ir", infrared), write_grey(tmp_path / "vis", visible)
    code, out, err = fuse(*folders, "-o", tmp_path / "o", "--model", "mean")
    assert code == 0, err
    assert f"{infrared[0]} with {visible[0]}" in out + err
    for number, stem in enumerate(visible):
        assert cv2.imread(str(tmp_path / "o" / f"{stem}.png"), 0).mean() == 100 * number


def test_images_are_paired_in_order(fuse, tmp_path):
    folders = write_grey(tmp_path / "ir", "ba"), write_grey(tmp_path / "vis", "yx")
    code, _, err = fuse(*folders, "-o", tmp_path / "o", "--model", "mean", "--pair-by", "order")
    assert code == 0, err
    assert [cv2.imread(str(path), 0).mean() for path in sorted((tmp_path / "o").iterdir())] == [100, 0]
