"""Images in degrees or signed counts: mapped by the range; without one they are refused, never guessed."""

import cv2
import numpy as np
import pytest
from PIL import Image

from fusepipe.core.errors import ConfigError, SourceError
from fusepipe.core.image_files import read_pixels
from fusepipe.rig.fuse import FuseOptions, fuse_pipeline

DEGREES = cv2.circle(np.full((120, 160), 12.5, np.float32), (110, 75), 30, 42.5, -1)
BLACK = np.zeros((120, 160), np.uint8)


def fuse(tmp_path, infrared, visible="vis.png", **options):
    """The fused luma of ``max``, which with a black image is the other one's."""
    cv2.imwrite(str(tmp_path / "vis.png"), BLACK)
    output = tmp_path / "out.png"
    report = fuse_pipeline(
        FuseOptions(tmp_path / infrared, tmp_path / visible, output, model="max", overwrite=True, **options)
    ).run()
    return report, cv2.imread(str(output), cv2.IMREAD_GRAYSCALE)


def signed(path):
    Image.fromarray((DEGREES * 100 - 2000).astype(np.int16).view(np.uint16)).save(path)
    image = Image.open(path)
    image.save(path, tiffinfo={**dict(image.tag_v2), 339: 2})  # Pillow has no signed samples: SampleFormat states them
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).dtype == np.int16


@pytest.mark.parametrize("name", ["degrees.tiff", "signed.tiff"])
def test_values_are_mapped_by_the_range(tmp_path, name):
    path = tmp_path / name
    span = (10.0, 45.0) if name == "degrees.tiff" else (-1000, 2500)
    cv2.imwrite(str(path), DEGREES) if name == "degrees.tiff" else signed(path)
    report, fused = fuse(tmp_path, name, value_range=span)
    assert report.warnings == []
    wanted = (DEGREES - 10) / 35 * 255
    assert np.abs(fused.astype(float) - wanted).max() <= 1


def test_a_hot_spot_outside_the_range_and_no_data_are_clipped(tmp_path):
    values = DEGREES.copy()
    values[:10], values[10:20], values[20:30] = 900, np.nan, -40
    cv2.imwrite(str(tmp_path / "a.tiff"), values)
    _, fused = fuse(tmp_path, "a.tiff", value_range=(10, 45))
    assert (fused[:10] == 255).all() and (fused[10:30] == 0).all()


def test_degrees_without_a_range_are_refused_with_the_range_to_give(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tiff"), DEGREES)
    with pytest.raises(SourceError, match=r"values are float32, 12.5 to 42.5; .*--range 12 43"):
        fuse(tmp_path, "a.tiff")


@pytest.mark.parametrize(
    ("value", "said"), [(21.0, r"21 to 21; .*--range 21 22"), (np.nan, "none of its values is a finite number")]
)
def test_images_of_one_value_are_refused_with_a_range_that_can_be_given(tmp_path, value, said):
    cv2.imwrite(str(tmp_path / "a.tiff"), np.full_like(DEGREES, value))
    with pytest.raises(SourceError, match=said):
        fuse(tmp_path, "a.tiff")


def test_negative_counts_without_a_range_are_refused_and_others_are_counts(tmp_path):
    signed(tmp_path / "a.tiff")
    with pytest.raises(SourceError, match=r"values are int16, -750 to 2250; .*--range -750 2250"):
        fuse(tmp_path, "a.tiff")
    cv2.imwrite(str(tmp_path / "b.tiff"), (DEGREES * 100).astype(np.int32))
    assert np.array_equal(read_pixels(tmp_path / "b.tiff"), (DEGREES * 100).astype(np.uint16))


def test_every_page_in_degrees_is_mapped(tmp_path):
    pages = [np.roll(DEGREES, 10 * page, 1) for page in range(3)]
    assert cv2.imwritemulti(str(tmp_path / "ir.tiff"), pages)
    assert cv2.imwritemulti(str(tmp_path / "vis.tiff"), [BLACK] * 3)
    fuse_pipeline(
        FuseOptions(tmp_path / "ir.tiff", tmp_path / "vis.tiff", tmp_path / "o", model="max", value_range=(10, 45))
    ).run()
    for page, path in zip(pages, sorted((tmp_path / "o").iterdir()), strict=True):
        fused = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert np.abs(fused - (page - 10) / 35 * 255).max() <= 1


def test_one_image_of_counts_among_degrees_is_reported(tmp_path):
    for name, pixels in (("a", DEGREES), ("b", (DEGREES * 100).astype(np.uint16)), ("c", DEGREES)):
        for folder in ("ir", "vis"):
            (tmp_path / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "ir" / f"{name}.tiff"), pixels)
        cv2.imwrite(str(tmp_path / "vis" / f"{name}.png"), BLACK)
    options = FuseOptions(tmp_path / "ir", tmp_path / "vis", tmp_path / "o", model="max", value_range=(10, 45))
    report = fuse_pipeline(options).run()
    assert report.pairs["fused"] == 2
    assert any("values are uint16; those of the first image are other values" in text for text in report.notes)


def test_a_range_of_degrees_does_not_fit_counts(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), (DEGREES * 100).astype(np.uint16))
    with pytest.raises(ConfigError, match=r"infrared: range 10.5 to 45: counts are whole numbers"):
        fuse(tmp_path, "a.png", value_range=(10.5, 45))


def test_a_radiometric_jpeg_is_fused_by_its_counts(tmp_path):
    from helpers.flir import radiometric_jpeg

    counts = (18000 + 40 * np.add.outer(np.arange(120), np.arange(160))).astype(np.uint16)
    (tmp_path / "a.jpg").write_bytes(radiometric_jpeg(counts, "swapped png"))
    low, high = int(counts.min()), int(counts.max())
    report, fused = fuse(tmp_path, "a.jpg", value_range=(low, high))
    assert report.warnings == []  # none of false colours: the palette picture is not read
    assert np.abs(fused - (counts - low) * 255.0 / (high - low)).max() <= 1
    radiometry = report.as_json()["sources"]["infrared"]["radiometry"]
    assert radiometry["unit"] == "kelvin" and radiometry["planck"]["b"] == 1501.0
