"""What image files say of temperatures: radiometric JPEG, degrees in floating point, counts with a unit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.flir import radiometric_jpeg

from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.core.radiometry import Radiometry
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.sources.files.image_folder import ImageFolderSource

CELSIUS = np.linspace(-30.0, 120.0, 12 * 16, dtype=np.float32).reshape(12, 16)
COUNTS = (18000 + 40 * np.add.outer(np.arange(12), np.arange(16))).astype(np.uint16)


def read(path: Path, band: Band = Band.INFRARED, **options: Any) -> tuple[SourceInfo, Frame]:
    source = ImageFolderSource(path, band, **options)
    info = source.open()
    (frame,) = source.frames(threading.Event())
    assert isinstance(frame, Frame)
    return info, frame


@pytest.mark.parametrize("encoding", ["little", "swapped png"])
def test_a_radiometric_jpeg_is_counts_for_the_infrared_camera_and_a_picture_for_the_visible_one(
    tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(radiometric_jpeg(COUNTS, encoding))
    info, frame = read(path)
    assert np.array_equal(frame.luma.pixels, COUNTS) and info.bit_depth == 16 and info.colour == "grey"
    assert frame.radiometry == info.radiometry is not None
    assert frame.radiometry.celsius(18109) == pytest.approx(23.843, abs=1e-3)
    info, frame = read(path, Band.VISIBLE)
    assert len(frame.planes) == 3 and info.bit_depth == 8 and frame.radiometry is None


def test_damaged_radiometric_data_are_no_picture(tmp_path: Path) -> None:
    jpeg = radiometric_jpeg(COUNTS, "little")
    path = tmp_path / "b.jpg"
    path.write_bytes(jpeg.replace(b"FFF\0made", b"FFF\0made" + b"\0" * 4, 1))  # shifted: the version is unknown
    (tmp_path / "a.jpg").write_bytes(jpeg)
    source = ImageFolderSource(tmp_path, Band.INFRARED)
    source.open()
    good, bad = source.frames(threading.Event())
    assert isinstance(good, Frame) and isinstance(bad, UnreadableFrame) and "FFF" in bad.reason


@pytest.mark.parametrize(
    ("unit", "values"), [("celsius", CELSIUS), ("kelvin", CELSIUS + np.float32(273.15))], ids=["celsius", "kelvin"]
)
def test_degrees_need_no_range_where_the_unit_is_known(tmp_path: Path, unit: Any, values: Any) -> None:
    spot = values.copy()
    spot[3, 4] = 1000.0 if unit == "kelvin" else 1000.0 - 273.15
    spot[5, 5] = np.nan
    cv2.imwrite(str(tmp_path / "a.tiff"), spot)
    info, frame = read(tmp_path / "a.tiff", radiometry=Radiometry(unit))
    assert info.mapped and frame.luma.pixels.dtype == np.uint16 and frame.radiometry is not None
    read_back = frame.radiometry.celsius(frame.luma.pixels)
    assert read_back[3, 4] == pytest.approx(1000 - 273.15, abs=0.1)
    read_back[3, 4], read_back[5, 5] = CELSIUS[3, 4], CELSIUS[5, 5]
    assert np.abs(read_back - CELSIUS).max() <= 0.011
    assert frame.luma.pixels[5, 5] == 0  # as a dead pixel


def test_a_range_of_degrees_keeps_the_temperatures(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tiff"), CELSIUS)
    _, frame = read(tmp_path / "a.tiff", radiometry=Radiometry("celsius"), value_range=(-40.0, 160.0))
    assert frame.radiometry is not None
    assert np.abs(frame.radiometry.celsius(frame.luma.pixels) - CELSIUS).max() < 0.01


def test_the_unit_of_counts_is_carried_and_the_counts_stay(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), COUNTS)
    given = Radiometry("kelvin", 1 / 64)
    info, frame = read(tmp_path / "a.png", radiometry=given)
    assert frame.radiometry == info.radiometry == given and np.array_equal(frame.luma.pixels, COUNTS)
    assert read(tmp_path / "a.png")[1].radiometry is None
