"""Files as FLIR cameras write them, made from counts: FFF, radiometric JPEG."""

from __future__ import annotations

import struct
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

CAPTURED_NS = 1_339_617_128_699_000_000


def fff(counts: NDArray[np.uint16], encoding: str, *, header_order: str = "<", **camera: float) -> bytes:
    """One FFF; ``encoding``: little, big, png, swapped png or jpeg-ls. ``camera`` replaces values of its record."""
    records = [(0x20, _camera_record(**camera)), (0x01, _raw_record(counts, encoding))]
    directory, bodies, at = b"", b"", 64 + 32 * len(records)
    for kind, body in records:
        directory += struct.pack(f"{header_order}HHIIIIIII", kind, 1, 100, 1, at, len(body), 0, 0, 0)
        bodies, at = bodies + body, at + len(body)
    head = b"FFF\0" + b"made".ljust(16, b"\0")
    head += struct.pack(f"{header_order}IIII", 101, 64, len(records), 1)
    return head.ljust(64, b"\0") + directory + bodies


def radiometric_jpeg(counts: NDArray[np.uint16], encoding: str, **camera: float) -> bytes:
    """A JPEG whose palette picture is a grey ramp, with the counts in APP1 segments."""
    ramp = np.tile(np.arange(counts.shape[1], dtype=np.uint8), (counts.shape[0], 1))
    done, encoded = cv2.imencode(".jpg", cv2.merge([ramp, ramp[:, ::-1], ramp]))
    assert done
    data, jpeg = fff(counts, encoding, **camera), encoded.tobytes()
    parts = [data[at : at + 65524] for at in range(0, len(data), 65524)]
    segments = b""
    for number, part in enumerate(parts):
        body = b"FLIR\0\1" + bytes([number, len(parts) - 1]) + part
        segments += b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    return jpeg[:2] + segments + jpeg[2:]


def _raw_record(counts: NDArray[np.uint16], encoding: str) -> bytes:
    height, width = counts.shape
    order = ">" if encoding == "big" else "<"
    head = struct.pack(f"{order}HHH", 2, width, height).ljust(32, b"\0")
    if encoding.endswith("png"):
        stored = counts.byteswap() if encoding == "swapped png" else counts
        done, png = cv2.imencode(".png", stored)
        assert done
        return head + png.tobytes()
    if encoding == "jpeg-ls":
        return head + _jpeg_ls(counts)
    return head + counts.astype(f"{order}u2").tobytes()


def _jpeg_ls(counts: NDArray[np.uint16]) -> bytes:
    codec = av.CodecContext.create("jpegls", "w")
    codec.height, codec.width = counts.shape  # type: ignore[attr-defined]
    codec.pix_fmt, codec.time_base = "gray16le", 1  # type: ignore[attr-defined]
    frame = av.VideoFrame.from_ndarray(counts, format="gray16le")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])  # type: ignore[attr-defined]


def _camera_record(**values: Any) -> bytes:
    """The record of a FLIR SC660, as in the example of the R package Thermimage."""
    camera = {"emissivity": 0.95, "window": 1.0, "r1": 21106.77, "b": 1501.0, "f": 1.0, "o": -7340, "r2": 0.012545258}
    camera |= values
    record = bytearray(0x400)
    struct.pack_into("<H", record, 0, 2)
    kelvin = 293.15
    struct.pack_into("<6f4xf", record, 0x20, camera["emissivity"], 1.0, kelvin, kelvin, kelvin, camera["window"], 0.5)
    struct.pack_into("<3f", record, 0x58, camera["r1"], camera["b"], camera["f"])
    struct.pack_into("<5f", record, 0x70, 0.006569, 0.01262, -0.002276, -0.00667, 1.9)
    struct.pack_into("<if", record, 0x308, int(camera["o"]), camera["r2"])
    milliseconds = int(camera.get("captured_ns", CAPTURED_NS)) // 1_000_000
    struct.pack_into("<II", record, 0x384, milliseconds // 1000, milliseconds % 1000)
    return bytes(record)
