"""Radiometric JPEG files of DJI: counts without temperatures; what needs DJI's SDK is refused by its name."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame
from fusepipe.pipeline.sources.files.dji_files import DjiError, dji_counts
from fusepipe.pipeline.sources.files.image_folder import ImageFolderSource

COUNTS = np.add.outer(np.arange(200), 3 * np.arange(260)).astype(np.uint16)


def dji_jpeg(thermal: bytes, make: bytes = b"DJI\0") -> bytes:
    """A JPEG of 260x200 with an EXIF make and thermal data in segments of at most 64 KiB."""
    done, encoded = cv2.imencode(".jpg", np.full((200, 260, 3), (200, 30, 90), np.uint8))
    assert done
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x010F, 2, len(make), 26) + b"\0" * 4 + make
    bodies = [(0xE1, b"Exif\0\0" + tiff)]
    bodies += [(0xE3, thermal[at : at + 65000]) for at in range(0, len(thermal), 65000)]
    segments = b"".join(b"\xff" + bytes([kind]) + struct.pack(">H", len(body) + 2) + body for kind, body in bodies)
    jpeg = encoded.tobytes()
    return jpeg[:2] + segments + jpeg[2:]


def test_counts_of_the_size_of_the_picture_and_of_the_sensor() -> None:
    counts = dji_counts(dji_jpeg(COUNTS.astype("<u2").tobytes()))
    assert counts is not None and np.array_equal(counts, COUNTS)
    sensor = np.arange(640 * 512, dtype=np.uint32).reshape(512, 640).astype(np.uint16)
    counts = dji_counts(dji_jpeg(sensor.astype("<u2").tobytes()))
    assert counts is not None and np.array_equal(counts, sensor)


def test_other_files_have_none() -> None:
    assert dji_counts(dji_jpeg(COUNTS.tobytes(), b"Kodak\0")) is None  # which has other things in APP3
    assert dji_counts(dji_jpeg(b"")) is None and dji_counts(b"\x89PNG") is None


def test_an_unknown_layout_names_the_sdk(tmp_path: Path) -> None:
    jpeg = dji_jpeg(COUNTS.tobytes()[:-7])
    with pytest.raises(DjiError, match=r"103993 bytes of an unknown layout.*DJI's Thermal SDK"):
        dji_counts(jpeg)
    (tmp_path / "a.jpg").write_bytes(jpeg)
    with pytest.raises(SourceError, match="DJI's Thermal SDK"):
        ImageFolderSource(tmp_path / "a.jpg", Band.INFRARED).open()
    assert ImageFolderSource(tmp_path / "a.jpg", Band.VISIBLE).open().bit_depth == 8


def test_the_infrared_camera_reads_counts(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(dji_jpeg(COUNTS.tobytes()))
    source = ImageFolderSource(tmp_path / "a.jpg", Band.INFRARED)
    assert source.open().bit_depth == 16
    (frame,) = source.frames(threading.Event())
    assert isinstance(frame, Frame) and np.array_equal(frame.luma.pixels, COUNTS) and frame.radiometry is None
