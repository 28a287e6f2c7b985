"""Capture times from the names of image files and from EXIF."""

from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import ExifTags, Image

from fusepipe.pipeline.sources.files.image_times import capture_times_ns, exif_time_ns, name_time_ns

SECOND_NS = int(datetime(2024, 5, 1, 12, 30, 15, tzinfo=UTC).timestamp()) * 1_000_000_000
QUARTER_NS = SECOND_NS + 250_000_000


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("2024-05-01_12-30-15.250", QUARTER_NS),
        ("20240501T123015250", QUARTER_NS),
        ("2024-05-01T12:30:15.250Z", QUARTER_NS),
        ("2024-05-01 12h30m15s250", QUARTER_NS),
        ("IR_20240501_123015_250", QUARTER_NS),
        ("FLIR_20240501_123015", SECOND_NS),
        ("flir_20240501T123015", SECOND_NS),
        ("DJI_20240501123015_0001_T", SECOND_NS),
        ("20240501_123015.250000000", QUARTER_NS),
        ("frame-1714566615", SECOND_NS),
        ("1714566615.250", QUARTER_NS),
        ("1714566615_250000000", QUARTER_NS),
        ("1714566615.25", QUARTER_NS),
        ("ir_1714566615.9", SECOND_NS + 900_000_000),
        ("1714566615.1234567", SECOND_NS + 123_456_700),
        ("1714566615.37517_ir", SECOND_NS + 375_170_000),
        ("1714566615-250", QUARTER_NS),
        ("1714566615250.5", QUARTER_NS + 500_000),
        ("1714566615250_0007", QUARTER_NS),
        ("1714566615_ir2", SECOND_NS),
        ("20240501_123015.2", SECOND_NS + 200_000_000),
        ("1714566615_25", None),  # 25 ms, 0.25 s or a counter
        ("1714566615-1234", None),
        ("1714566615.1234567890", None),
        ("20240501_123015_25", None),
        ("20240501-123015-1", None),
        ("2024050112301525", None),
        ("1714566615250", QUARTER_NS),
        ("thermal_1714566615250000", QUARTER_NS),
        ("1714566615250000000", QUARTER_NS),
        ("000123", None),
        ("FLIR0123", None),
        ("20241301_123015", None),  # no month 13
        ("20240501_256199", None),
        ("9999999999", None),
        ("00000000000000000001", None),
        ("640x512_20240501", None),
    ],
)
def test_times_of_names(stem, expected):
    assert name_time_ns(stem) == expected


def image_file(path, when=None, fraction=None):
    image = Image.fromarray(np.zeros((8, 8), np.uint8))
    exif = image.getexif()
    exif[ExifTags.Base.Make] = "FLIR"
    tags = exif if path.suffix == ".tif" else exif.get_ifd(ExifTags.IFD.Exif)  # TIFF may have them beside its own tags
    if when:
        tags[ExifTags.Base.DateTimeOriginal] = when
    if fraction:
        tags[ExifTags.Base.SubsecTimeOriginal] = fraction
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(("fraction", "expected"), [(None, SECOND_NS), ("25", QUARTER_NS), ("250", QUARTER_NS)])
def test_times_of_exif(tmp_path, suffix, fraction, expected):
    assert exif_time_ns(image_file(tmp_path / f"a.{suffix}", "2024:05:01 12:30:15", fraction)) == expected


def test_files_without_times(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert exif_time_ns(tmp_path / "broken.jpg") is None
    assert exif_time_ns(image_file(tmp_path / "plain.png")) is None
    assert exif_time_ns(image_file(tmp_path / "odd.jpg", "0000:00:00 00:00:00")) is None


@pytest.mark.parametrize(
    "stems",
    [
        ["20240501_123015", "20240501_123015_b"],  # too coarse: two in one second
        ["20240501_123015_001", "20240501_123015_002", "20240501_123015_003"],  # a counter
        ["20240501_123015", "b"],  # not all
        ["1", "2"],
        [],
    ],
)
def test_times_that_are_not_used(tmp_path, stems):
    assert capture_times_ns([image_file(tmp_path / f"{stem}.png") for stem in stems]) is None


def test_names_come_before_exif(tmp_path):
    files = [image_file(tmp_path / f"2024050112301{n}.jpg", "2020:01:01 00:00:00") for n in (5, 6)]
    assert capture_times_ns(files) == ([SECOND_NS, SECOND_NS + 1_000_000_000], "file names")
    files = [image_file(tmp_path / f"{n}.jpg", f"2024:05:01 12:30:1{n}") for n in (5, 6)]
    assert capture_times_ns(files) == ([SECOND_NS, SECOND_NS + 1_000_000_000], "EXIF")
