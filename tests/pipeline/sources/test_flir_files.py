"""FLIR's files: counts in every encoding and byte order, what they measure, and damaged files."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.flir import CAPTURED_NS, fff, radiometric_jpeg
from hypothesis import given
from hypothesis import strategies as st

from fusepipe.pipeline.sources.files.flir_files import FlirError, flir_data, read_fff

COUNTS = (18000 + 40 * np.add.outer(np.arange(12), np.arange(16))).astype(np.uint16)


@pytest.mark.parametrize("encoding", ["little", "big", "png", "swapped png", "jpeg-ls"])
@pytest.mark.parametrize("order", "<>")
def test_counts_in_every_encoding_and_byte_order(encoding: str, order: str) -> None:
    image = read_fff(b"?" * 7 + fff(COUNTS, encoding, header_order=order), 7)
    assert image.counts.dtype == np.uint16 and np.array_equal(image.counts, COUNTS)
    assert image.captured_ns == CAPTURED_NS


def test_a_flat_png_is_in_the_order_of_flir() -> None:
    flat = np.full((12, 16), 18109, np.uint16)
    assert np.array_equal(read_fff(fff(flat, "swapped png")).counts, flat)


def test_temperature_of_counts_with_emissivity_air_and_window() -> None:
    image = read_fff(fff(COUNTS, "little"))
    assert image.radiometry is not None
    # raw2temp(18109, E=.95, OD=1, RH=50, all temperatures 20 °C, IRT=1) of the R package Thermimage gives 23.8434
    assert image.radiometry.celsius(18109) == pytest.approx(23.8434, abs=1e-3)
    behind_window = read_fff(fff(COUNTS, "little", window=0.96)).radiometry
    assert behind_window is not None
    # raw2temp(18109, 0.95, 1, 20, 20, 20, 0.96, 50)
    assert behind_window.celsius(18109) == pytest.approx(24.0002, abs=1e-3)


def test_a_camera_without_calibration_has_counts_only() -> None:
    image = read_fff(fff(COUNTS, "little", r1=0.0))
    assert image.radiometry is None and np.array_equal(image.counts, COUNTS)


def test_a_radiometric_jpeg_of_several_segments(tmp_path: Path) -> None:
    large = np.tile(COUNTS, (20, 20))
    jpeg = radiometric_jpeg(large, "little")
    assert jpeg.count(b"FLIR\0") > 1
    assert np.array_equal(read_fff(flir_data(jpeg)).counts, large)
    done, plain = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))
    assert done and flir_data(plain.tobytes()) == b"" and flir_data(b"GIF89a") == b""


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:300], "truncated"),
        (lambda data: data[:-4], "truncated"),
        (lambda data: b"AFF\0" + data[4:], "begin with FFF"),
        (lambda data: data[:20] + struct.pack("<I", 7) + data[24:], "version"),
        (lambda data: data[:28] + struct.pack("<I", 1 << 30) + data[32:], "records"),
        (lambda data: data[:96] + struct.pack("<H", 9) + data[98:], "no radiometric counts"),
    ],
)
def test_damage_is_named(damage, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FlirError, match=message):
        read_fff(damage(fff(COUNTS, "little")))


def test_a_missing_segment_is_named() -> None:
    jpeg = radiometric_jpeg(np.tile(COUNTS, (20, 20)), "little")
    begin = jpeg.index(b"FLIR\0") - 4
    (length,) = struct.unpack_from(">H", jpeg, begin + 2)
    with pytest.raises(FlirError, match="2 of 3 segments"):
        flir_data(jpeg[:begin] + jpeg[begin + 2 + length :])


def test_a_damaged_jpeg_ls_is_named() -> None:
    data = fff(COUNTS, "jpeg-ls")
    begin = data.index(b"\xff\xd8\xff\xf7") + 4
    with pytest.raises(FlirError, match="JPEG-LS of its radiometric counts cannot be decoded"):
        read_fff(data[:begin] + bytes(len(data) - begin))


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_of_a_jpeg_give_its_data_or_the_error(noise: bytes, at: int) -> None:
    jpeg = radiometric_jpeg(COUNTS, "little")
    for data in (jpeg[:at], jpeg[:at] + noise + jpeg[at + len(noise) :], b"\xff\xd8\xff\xe1\0\x07FLIR\0"):
        try:
            assert isinstance(flir_data(data), bytes)
        except FlirError:
            continue


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_give_an_image_or_the_error(noise: bytes, at: int) -> None:
    data = fff(COUNTS, "little")
    try:
        counts = read_fff(data[:at] + noise + data[at + len(noise) :]).counts
    except FlirError:
        return
    assert counts.dtype == np.uint16 and counts.ndim == 2 and counts.size > 0


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape", "median_c"), [("SampleFLIR.jpg", (480, 640), 29.008), ("flir_example.jpg", (320, 240), 26.578)]
)
def test_files_of_cameras(data_dir: Path, name: str, shape: tuple[int, int], median_c: float) -> None:
    image = read_fff(flir_data((data_dir / "thermal" / name).read_bytes()))
    assert image.counts.shape == shape and image.radiometry is not None
    celsius = image.radiometry.celsius(image.counts)
    assert np.median(celsius) == pytest.approx(median_c, abs=0.01)
    assert celsius.min() > 15 and celsius.max() < 70  # with the bytes exchanged: from -273 to 1,000
