"""The counts in radiometric JPEG files of DJI's cameras.

They are little-endian samples in APP3 segments (ExifTool, lib/Image/ExifTool/JPEG.pm: ThermalData, where the EXIF make
is DJI). What they measure is known to DJI's Thermal SDK only.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.uint16]

_APP1, _APP3, _START_OF_SCAN = 0xE1, 0xE3, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SENSOR = (640, 512)  # of the cameras whose picture is enlarged


class DjiError(ValueError):
    """Radiometric data that cannot be read; the argument says why and what can."""


def dji_counts(jpeg: bytes) -> Counts | None:
    """The counts, HxW uint16; ``None`` for files that have none. Raises :class:`DjiError`."""
    if not jpeg.startswith(b"\xff\xd8"):
        return None
    thermal, made_by_dji, sizes = b"", False, [_SENSOR]
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != _START_OF_SCAN:
        marker, (length,) = jpeg[at + 1], struct.unpack_from(">H", jpeg, at + 2)
        body = jpeg[at + 4 : at + 2 + length]
        if marker == _APP1 and body.startswith(b"Exif\0"):
            made_by_dji = b"DJI\0" in body
        elif marker == _APP3:
            thermal += body
        elif marker in _FRAMES and len(body) >= 5:
            height, width = struct.unpack_from(">HH", body, 1)
            sizes.insert(0, (width, height))
        at += 2 + length
    if not made_by_dji or not thermal:
        return None
    for width, height in sizes:
        if len(thermal) == 2 * width * height:
            return np.frombuffer(thermal, "<u2").reshape(height, width).astype(np.uint16)
    raise DjiError(
        f"is a radiometric JPEG of DJI with {len(thermal)} bytes of an unknown layout: convert it to a TIFF of degrees "
        "with DJI's Thermal SDK (dji_irp)"
    )
