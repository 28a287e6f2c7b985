"""Multi-page TIFF, animated WebP and PNG: every page is a frame, wherever the file is used."""

import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from fusepipe.config.schema import SourceConfig
from fusepipe.core import image_pages
from fusepipe.core.errors import FusepipeError, SourceError, UsageError
from fusepipe.core.frames import Band, Frame
from fusepipe.core.image_files import UnreadableImage, read_pixels
from fusepipe.pipeline.testing import CollectSink
from fusepipe.rig.factories.sources import make_source
from fusepipe.rig.fuse import FuseOptions, fuse_pipeline

H, W, PAGES = 48, 64, 20
IR, VIS = Band.INFRARED, Band.VISIBLE


def page(index, dtype=np.uint8):
    """A white block that moves 3 pixels a page."""
    pixels = np.full((H, W), 20, np.uint8)
    pixels[10:30, 3 * index : 3 * index + 6] = 200
    return pixels if dtype == np.uint8 else pixels.astype(np.uint16) * 40 + 7000


def animated(path, step_ms=100):
    animation = cv2.Animation()
    animation.frames = [cv2.merge([page(i)] * 3 + [np.full((H, W), 255, np.uint8)]) for i in range(PAGES)]
    animation.durations = [step_ms] * PAGES
    assert cv2.imwriteanimation(str(path), animation)
    return path


def tiff(path, dtype=np.uint8):
    assert cv2.imwritemulti(str(path), [page(i, dtype) for i in range(PAGES)])
    return path


MAKERS = {
    "a.tiff": tiff,
    "a.tif": lambda path: tiff(path, np.uint16),
    "a.webp": animated,
    "a.png": animated,
    "a.gif": animated,
}


@pytest.fixture(params=MAKERS)
def paged(request, tmp_path):
    return MAKERS[request.param](tmp_path / request.param)


def read(path, band, **options):
    source = make_source(SourceConfig(url=str(path), **options), band, "rig")
    info = source.open()
    try:
        return info, list(source.frames(threading.Event()))
    finally:
        source.close()


def block_at(frame):
    """The column at which the block begins."""
    row = frame.planes[0].pixels[20].astype(int)
    return int(np.argmax(row > (row.min() + row.max()) / 2))


@pytest.mark.parametrize("band", Band)
def test_every_page_is_a_frame_in_order(paged, band):
    info, frames = read(paged, band)
    assert all(isinstance(frame, Frame) for frame in frames)
    assert len(frames) == PAGES and info.frames in (None, PAGES)
    assert [frame.index for frame in frames] == list(range(PAGES))
    assert np.abs(np.array([block_at(frame) for frame in frames]) - 3 * np.arange(PAGES)).max() <= 1
    step_ms = 40 if paged.suffix.startswith(".tif") else 100
    assert [round(frame.capture_ns / 1e6) for frame in frames] == [step_ms * i for i in range(PAGES)]


def test_16_bit_pages_keep_infrared_counts(tmp_path):
    info, frames = read(tiff(tmp_path / "a.tiff", np.uint16), IR)
    assert info.bit_depth == 16
    for index, frame in enumerate(frames):
        assert np.array_equal(frame.luma.pixels, page(index, np.uint16))


def test_fps_sets_the_times_of_pages(tmp_path):
    for path in (tiff(tmp_path / "a.tiff"), animated(tmp_path / "a.webp")):
        _, frames = read(path, VIS, fps=10)
        assert [frame.capture_ns // 1_000_000 for frame in frames] == [100 * i for i in range(PAGES)]


def test_fuse_gives_as_many_images_as_pages(paged, tmp_path):
    pipeline = fuse_pipeline(FuseOptions(paged, paged, tmp_path / "out", model="max"))
    pipeline.run()
    assert len(list((tmp_path / "out").glob("*.png"))) == PAGES


def test_fuse_writes_pages_as_a_video_and_not_as_one_image(tmp_path):
    path = tiff(tmp_path / "a.tiff")
    with pytest.raises(UsageError, match="is one image, but the inputs are many"):
        fuse_pipeline(FuseOptions(path, path, tmp_path / "out.png", model="max"))
    sink = CollectSink()
    fuse_pipeline(FuseOptions(path, path, tmp_path / "out.mkv", model="max")).run()
    assert (tmp_path / "out.mkv").stat().st_size and not sink.frames


def test_pages_and_one_image_do_not_go_together(tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), page(0))
    with pytest.raises(UsageError, match=r"one.png is an image and .*a.tiff a file of many images"):
        fuse_pipeline(FuseOptions(tiff(tmp_path / "a.tiff"), tmp_path / "one.png", tmp_path / "o", model="max"))


def test_one_image_of_several_is_never_used_silently(paged, tmp_path):
    if paged.suffix == ".gif":
        pytest.skip("is always a video")
    with pytest.raises(UnreadableImage, match=f"holds {PAGES} images"):
        read_pixels(paged)
    folder = tmp_path / "folder"
    folder.mkdir()
    paged.rename(folder / f"0{paged.suffix}")
    with pytest.raises(SourceError, match=f"holds {PAGES} images"):
        read(folder, IR)
    cv2.imwrite(str(folder / "1.png"), page(0))
    _, items = read(folder, IR)
    assert [isinstance(item, Frame) for item in items] == [False, True]
    assert f"holds {PAGES} images" in items[0].reason


def test_overviews_and_thumbnails_are_not_pages(tmp_path):
    path = tmp_path / "a.tiff"
    cv2.imwritemulti(str(path), [page(0), cv2.resize(page(0), (W // 2, H // 2))])
    assert image_pages.count_pages(path.read_bytes()) == 1
    assert read_pixels(path).shape == (H, W)
    cv2.imwritemulti(str(path), [page(0), cv2.resize(page(0), (W // 2, H // 2)), page(1)])
    _, frames = read(path, IR)
    assert [block_at(frame) for frame in frames] == [0, 3]


def small(index=0):
    return cv2.resize(page(index), (W // 2, H // 2))


def test_a_thumbnail_in_front_is_not_the_image(tmp_path):
    path = tmp_path / "a.tiff"
    cv2.imwritemulti(str(path), [small(), page(1, np.uint16)])
    assert np.array_equal(read_pixels(path), page(1, np.uint16))
    info, frames = read(path, IR)
    assert info.notes == ("has 1 page of another size, which is left out",)
    assert [block_at(frame) for frame in frames] == [3] and (info.width, info.height) == (W, H)


def test_the_most_frequent_size_is_that_of_the_frames(tmp_path):
    path = tmp_path / "a.tiff"
    cv2.imwritemulti(str(path), [small()] + [page(i) for i in range(4)] + [small()])
    info, frames = read(path, IR)
    assert [block_at(frame) for frame in frames] == [0, 3, 6, 9] and info.frames == 4
    assert info.notes == ("has 2 pages of other sizes, which are left out",)
    cv2.imwritemulti(str(path), [small(0), page(1), small(2), page(3)])  # equally many: the larger ones
    assert [block_at(frame) for frame in read(path, IR)[1]] == [3, 9]
    assert read(tiff(tmp_path / "b.tiff"), IR)[0].notes == ()


def test_pages_that_are_left_out_are_reported_by_a_run(tmp_path):
    cv2.imwritemulti(str(tmp_path / "a.tiff"), [small(), page(0), page(1)])
    report = fuse_pipeline(FuseOptions(*[tmp_path / "a.tiff"] * 2, tmp_path / "out", model="max")).run()
    assert sum("has 1 page of another size, which is left out" in text for text in report.warnings) == 2  # of 2 inputs
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_the_further_images_of_an_mpo_are_reported(tmp_path):
    images = [Image.fromarray(page(index)) for index in range(3)]
    images[0].save(tmp_path / "0.jpg", "MPO", save_all=True, append_images=images[1:])
    text = "has 3 images (MPO), of which only the first is used"
    info, frames = read(tmp_path / "0.jpg", VIS)
    assert info.notes == (text,) and len(frames) == 1
    images[1].save(tmp_path / "1.jpg")
    assert read(tmp_path, VIS)[0].notes == (f"(0.jpg) {text}",)
    assert read(tmp_path / "1.jpg", VIS)[0].notes == ()


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_files_end_in_an_error_or_fewer_frames(tmp_path, name):
    data = MAKERS[name](tmp_path / name).read_bytes()
    rng = np.random.default_rng(5)
    for length in (0, 3, 9, 30, len(data) // 2, len(data) - 5):
        spoilt = bytearray(data[:length] if length % 2 else data)
        for at in rng.integers(0, max(1, len(spoilt)), 6):
            if len(spoilt):
                spoilt[at] ^= 0xFF
        (tmp_path / name).write_bytes(spoilt)
        try:
            _, frames = read(tmp_path / name, IR)
        except FusepipeError:
            continue
        assert len(frames) <= 3 * PAGES
