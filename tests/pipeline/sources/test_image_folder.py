"""Image files: formats, depths, damage."""

import io
import os
import struct
import sys
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from fusepipe.core import image_files, image_formats
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, UnreadableFrame
from fusepipe.pipeline.sources.files.image_folder import ImageFolderSource

RNG = np.random.default_rng(0)


def read(path, band=Band.VISIBLE, **options):
    source = ImageFolderSource(path, band, **options)
    source.open()
    return list(source.frames(threading.Event()))


@pytest.mark.parametrize("suffix", sorted(image_formats.WRITTEN_SUFFIXES))
def test_every_format_reads_grey_and_colour(tmp_path, suffix):
    for name, pixels in (
        ("grey", np.full((17, 23), 90, np.uint8)),
        ("colour", np.full((17, 23, 3), (200, 90, 30), np.uint8)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        assert cv2.imwrite(str(folder / f"a{suffix}"), pixels)
        (frame,) = read(folder)
        # WebP has no grey images: its reader gives three equal channels
        assert len(frame.planes) == (1 if name == "grey" and suffix != ".webp" else 3)
        assert abs(int(frame.luma.pixels.mean()) - (90 if name == "grey" else 85)) <= 2


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_keeps_infrared_counts_and_maps_visible_to_8_bit(tmp_path, suffix):
    counts = RNG.integers(0, 65536, (9, 7), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), counts)
    (infrared,) = read(tmp_path, Band.INFRARED)
    assert infrared.luma.bit_depth == 16 and np.array_equal(infrared.luma.pixels, counts)
    (visible,) = read(tmp_path, Band.VISIBLE)
    assert np.array_equal(visible.luma.pixels, np.floor(counts * 255.0 / 65535 + 0.5).astype(np.uint8))


def test_alpha_is_dropped_and_palettes_are_expanded(tmp_path):
    rgba = RNG.integers(0, 256, (9, 7, 4), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), rgba)
    (frame,) = read(tmp_path)
    luma = cv2.cvtColor(np.ascontiguousarray(rgba[:, :, :3]), cv2.COLOR_BGR2YCrCb)[:, :, 0]
    assert np.array_equal(frame.luma.pixels, luma)


def test_colour_goes_through_unchanged_planes_to_the_same_file_again(tmp_path):
    """Folder to folder without fusion: at most the rounding of 8-bit YCbCr."""
    pixels = RNG.integers(0, 256, (19, 21, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    (frame,) = read(tmp_path)
    assert np.abs(image_files.to_bgr(frame).astype(int) - pixels).max() <= 2


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_a_truncated_file_is_unreadable_never_half_an_image(tmp_path, suffix):
    pixels = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}{suffix}"), pixels)
    whole = (tmp_path / f"b{suffix}").read_bytes()
    (tmp_path / f"b{suffix}").write_bytes(whole[: len(whole) // 2])
    items = read(tmp_path)
    assert [isinstance(i, UnreadableFrame) for i in items] == [False, True, False]
    assert items[1].name == "b" and items[1].reason


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_data_after_the_image_are_ignored(tmp_path, suffix):
    """Phones append video clips to JPEG files."""
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), RNG.integers(0, 256, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes() + bytes(6000))
    assert read(path)[0].luma.pixels.shape == (64, 64)


def test_a_small_file_cannot_declare_an_image_that_fills_memory(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4), np.uint8))
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "b.png").write_bytes(data)
    items = read(tmp_path)
    assert items[1].reason == "60000x60000 exceeds the limit of 268435456 pixels"


def test_folders_and_pipes_with_image_names_are_not_images(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4), np.uint8))
    (tmp_path / "0.png").mkdir()
    os.mkfifo(tmp_path / "1.png")
    assert [p.name for p in image_files.list_images(tmp_path)] == ["a.png"]


def test_a_slow_rate_is_exact(tmp_path):
    for stem in "ab":
        cv2.imwrite(str(tmp_path / f"{stem}.png"), np.zeros((4, 4), np.uint8))
    assert [f.capture_ns for f in read(tmp_path, fps=0.0002)] == [0, 5000 * 10**9]


def test_an_empty_file_and_a_text_file_are_unreadable(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4), np.uint8))
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").write_text("not an image")
    assert [getattr(i, "reason", "") for i in read(tmp_path)] == ["", "the file is empty", "not an image, or damaged"]


def test_order_is_natural_and_hidden_files_are_not_images(tmp_path):
    for stem in ("10", "9", "1"):
        cv2.imwrite(str(tmp_path / f"{stem}.png"), np.zeros((4, 4), np.uint8))
    (tmp_path / ".9.png.tmp.partial").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    assert [p.stem for p in image_files.list_images(tmp_path)] == ["1", "9", "10"]


def test_two_files_of_one_stem_are_refused(tmp_path):
    for suffix in (".png", ".bmp"):
        cv2.imwrite(str(tmp_path / f"a{suffix}"), np.zeros((4, 4), np.uint8))
    with pytest.raises(SourceError, match=r"two images have the stem 'a'"):
        image_files.list_images(tmp_path)


def test_a_folder_without_images_names_the_folders_in_it(tmp_path):
    for name in ("vis", "ir"):
        (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match=r"there are no images in this folder .*; it holds folders: ir, vis$"):
        image_files.list_images(tmp_path)


def test_an_empty_folder_error_lists_the_formats(tmp_path):
    with pytest.raises(SourceError, match=r"no images in this folder \(looked for bmp, heic, heif, j2k"):
        ImageFolderSource(tmp_path, Band.VISIBLE).open()


def test_a_folder_of_damaged_images(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(SourceError, match="none of its 1 images can be decoded"):
        ImageFolderSource(tmp_path, Band.VISIBLE).open()


@pytest.mark.data
def test_real_jpeg_luma_is_that_of_the_file(data_dir):
    """OpenCV's luma of a colour JPEG is within rounding of the JPEG's own Y plane (as FFmpeg decodes it)."""
    import av

    path = next((data_dir / "roadscene" / "vis").glob("*.jpg"))
    (frame,) = read(path)
    with av.open(str(path)) as container:
        own = next(container.decode(video=0))
    luma = np.frombuffer(memoryview(own.planes[0]), np.uint8).reshape(own.height, own.planes[0].line_size)[
        :, : own.width
    ]
    difference = np.abs(frame.luma.pixels.astype(int) - luma)
    assert difference.mean() < 0.6 and np.percentile(difference, 99) <= 3


def encoded_by_pillow(pixels, image_format, **options):
    """The bytes of RGB or grey ``pixels`` in a format whose colour OpenCV cannot write."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, image_format, **options)
    return data.getvalue()


@pytest.mark.parametrize("suffix", [".pgm", ".pnm", ".jp2", ".j2k"])
def test_further_formats_keep_16_bit_counts(tmp_path, suffix):
    counts = RNG.integers(0, 65536, (120, 160), dtype=np.uint16)
    if suffix in (".jp2", ".j2k"):  # a J2K is the codestream without its container
        data = encoded_by_pillow(counts, "JPEG2000", no_jp2=suffix == ".j2k")
    else:
        data = cv2.imencode(suffix, counts)[1].tobytes()
    (tmp_path / f"a{suffix}").write_bytes(data)
    (frame,) = read(tmp_path, Band.INFRARED)
    assert np.array_equal(frame.luma.pixels, counts)


@pytest.mark.parametrize(("suffix", "image_format"), [(".ppm", "PPM"), (".jp2", "JPEG2000"), (".heic", "HEIF")])
def test_further_formats_have_colour(tmp_path, suffix, image_format):
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48] = (200, 90, 30)
    (tmp_path / f"a{suffix}").write_bytes(encoded_by_pillow(pixels, image_format))
    (frame,) = read(tmp_path)
    assert len(frame.planes) == 3
    expected = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    for plane, wanted in zip(frame.planes, np.moveaxis(expected, 2, 0), strict=True):
        assert np.abs(plane.pixels[8:56, 8:40].astype(int) - wanted[8:56, 8:40]).max() <= 3


def test_heic_without_its_package_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(SourceError, match=r"pip install 'fusepipe\[heic\]'"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", [".pgm", ".jp2", ".heic"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_truncated_files_of_further_formats_are_unreadable(tmp_path, suffix, kept):
    pixels = RNG.integers(0, 256, (64, 96), dtype=np.uint8)
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
        data = encoded_by_pillow(pixels, "HEIF")
    else:
        data = cv2.imencode(suffix, pixels)[1].tobytes()
    (tmp_path / f"a{suffix}").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceError, match="none of its 1 images can be decoded"):
        read(tmp_path)


def test_a_jpeg_2000_that_declares_a_huge_image_is_refused(tmp_path):
    data = bytearray(encoded_by_pillow(np.zeros((64, 64), np.uint8), "JPEG2000", no_jp2=True))
    struct.pack_into(">2I", data, 8, 1 << 16, 1 << 16)  # SIZ: width and height of the reference grid
    (tmp_path / "a.j2k").write_bytes(data)
    with pytest.raises(SourceError, match="65536x65536 exceeds the limit"):
        read(tmp_path)
