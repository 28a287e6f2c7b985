"""The radiometric data in files of FLIR cameras: counts, what they measure, and when they were captured.

FLIR's format FFF is a header, a directory of records and the records. A radiometric JPEG has it in APP1 segments that
begin with ``FLIR``; a sequence (SEQ, CSQ) is one FFF after another. The counts are samples in either byte order, a PNG
(whose samples FLIR writes in the order that PNG does not have), or JPEG-LS in CSQ.

The layout is not published by FLIR; it is documented by ExifTool (lib/Image/ExifTool/FLIR.pm) and by the R package
Thermimage, whose ``raw2temp`` gives the correction for emissivity, atmosphere and window (after Minkina and Dudzik,
"Infrared Thermography: Errors and Uncertainties", 2009).
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.radiometry import ZERO_CELSIUS_K, PlanckConstants, Radiometry

Counts = NDArray[np.uint16]

FFF = b"FFF\0"
_APP1, _START_OF_SCAN = 0xE1, 0xDA
_SEGMENT_HEADER = 8  # bytes: the name, a version, the number of the segment and of the last one
_RAW_DATA, _CAMERA_INFO = 0x01, 0x20  # record types
_RAW_HEADER, _RECORD = 32, 32  # bytes
_VERSIONS = range(100, 200)  # of the header, whichever its byte order
_MAX_RECORDS = 256
_PNG, _JPEG_LS = b"\x89PNG", b"\xff\xd8\xff\xf7"


class FlirError(ValueError):
    """The file has damaged or unknown radiometric data; the argument says what."""


@dataclass(frozen=True, slots=True, eq=False)
class FlirImage:
    """``counts`` is HxW uint16; ``captured_ns`` the UNIX time of the exposure; ``end`` where the FFF ends in its file.

    ``radiometry`` is ``None`` where the camera stored no calibration.
    """

    counts: Counts
    radiometry: Radiometry | None
    captured_ns: int | None
    end: int


def flir_data(jpeg: bytes) -> bytes:
    """The FFF of a radiometric JPEG, assembled from its segments; empty for other files.

    Raises :class:`FlirError` where segments are missing.
    """
    if not jpeg.startswith(b"\xff\xd8"):
        return b""
    parts: dict[int, bytes] = {}
    at, last = 2, 0
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != _START_OF_SCAN:
        (length,) = struct.unpack_from(">H", jpeg, at + 2)
        body = jpeg[at + 4 : at + 2 + length]
        if jpeg[at + 1] == _APP1 and body.startswith(b"FLIR\0") and len(body) >= _SEGMENT_HEADER:
            number, last = body[6], body[7]
            parts[number] = body[_SEGMENT_HEADER:]
        at += 2 + length
    if parts and sorted(parts) != list(range(last + 1)):
        raise FlirError(f"has {len(parts)} of {last + 1} segments of radiometric data")
    return b"".join(parts[number] for number in sorted(parts))


def read_fff(data: bytes | mmap.mmap, begin: int = 0) -> FlirImage:
    """The image of the FFF at ``begin``. Raises :class:`FlirError`."""
    try:
        records = _records(data, begin)
        if _RAW_DATA not in records:
            raise FlirError("has no radiometric counts")
        at, length = records[_RAW_DATA]
        counts = _counts(data[at : at + length])
        radiometry, captured_ns = None, None
        if _CAMERA_INFO in records:
            at, length = records[_CAMERA_INFO]
            radiometry, captured_ns = _camera(data[at : at + length])
    except (struct.error, OverflowError) as error:
        raise FlirError(f"the radiometric data are truncated ({error})") from error
    return FlirImage(counts, radiometry, captured_ns, max(at + length for at, length in records.values()))


def _records(data: bytes | mmap.mmap, begin: int) -> dict[int, tuple[int, int]]:
    """By type: where the first record of it begins, and its length."""
    if data[begin : begin + 4] != FFF:
        raise FlirError("the radiometric data do not begin with FFF")
    order = next((o for o in "<>" if struct.unpack_from(f"{o}I", data, begin + 20)[0] in _VERSIONS), None)
    if order is None:
        raise FlirError("the radiometric data have an unknown version of FFF")
    directory, count = struct.unpack_from(f"{order}II", data, begin + 24)
    if count > _MAX_RECORDS:
        raise FlirError(f"the radiometric data have {count} records")
    records: dict[int, tuple[int, int]] = {}
    for index in range(count):
        at = begin + directory + index * _RECORD
        kind, offset, length = struct.unpack_from(f"{order}H10xII", data, at)
        if kind and begin + offset + length > len(data):
            raise FlirError("the radiometric data are truncated")
        if kind:
            records.setdefault(kind, (begin + offset, length))
    return records


def _counts(record: bytes) -> Counts:
    """The counts of a raw data record: a header of 32 bytes that begins with 2, width and height, and the samples."""
    order = "<" if record[:1] == b"\2" else ">"
    _, width, height = struct.unpack_from(f"{order}3H", record)
    body = record[_RAW_HEADER:]
    if body.startswith(_PNG):
        counts = _png_counts(body)
    elif body.startswith(_JPEG_LS):
        counts = _jpeg_ls_counts(body)
    else:
        if not width or not height or len(body) < 2 * width * height:
            raise FlirError(f"the radiometric data are truncated: {len(body)} bytes for {width}x{height} counts")
        samples = np.frombuffer(body, f"{order}u2", width * height)
        counts = samples.reshape(height, width).astype(np.uint16)
    return counts


def _png_counts(png: bytes) -> Counts:
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise FlirError("the PNG of its radiometric counts cannot be decoded")
    counts = np.asarray(pixels, np.uint16)
    return min(counts.byteswap(), counts, key=_roughness)  # the first where both are flat: FLIR's own order


def _roughness(counts: Counts) -> float:
    """Mean difference of neighbours: with the bytes exchanged, the noise of a sensor is in the high byte."""
    return float(np.abs(np.diff(counts[::2].astype(np.int32), axis=1)).mean())


def _jpeg_ls_counts(data: bytes) -> Counts:
    import av  # for this one kind of file: no other needs FFmpeg

    codec = av.CodecContext.create("jpegls", "r")
    try:
        frames = [*codec.decode(av.Packet(data)), *codec.decode(None)]
    except av.FFmpegError as error:
        raise FlirError(f"the JPEG-LS of its radiometric counts cannot be decoded: {error.strerror}") from error
    if not frames:
        raise FlirError("the JPEG-LS of its radiometric counts cannot be decoded")
    return np.array(frames[0].to_ndarray(format="gray16le"), np.uint16)


def _camera(record: bytes) -> tuple[Radiometry | None, int | None]:
    """What the counts measure, and the UNIX time of the exposure in ns."""
    order = "<" if record[:1] == b"\2" else ">"
    emissivity, distance_m, reflected_k, air_k, window_k, window, humidity = struct.unpack_from(
        f"{order}6f4xf", record, 0x20
    )
    r1, b, f = struct.unpack_from(f"{order}3f", record, 0x58)
    alpha1, alpha2, beta1, beta2, x = struct.unpack_from(f"{order}5f", record, 0x70)
    o, r2 = struct.unpack_from(f"{order}if", record, 0x308)
    seconds, fraction = struct.unpack_from(f"{order}II", record, 0x384)
    captured_ns = (seconds * 1000 + (fraction & 0xFFFF)) * 1_000_000 if seconds else None
    try:
        planck = PlanckConstants(r1, b, f, o, r2)
        path = _Path(emissivity, reflected_k, air_k, window, window_k)
        gain, offset = path.correction(
            planck, _transmission(distance_m, humidity, air_k, alpha1, alpha2, beta1, beta2, x)
        )
        return Radiometry("kelvin", gain, offset, planck), captured_ns
    except (ValueError, ZeroDivisionError, OverflowError):
        return None, captured_ns  # a camera without a calibration stores zeros


def _transmission(
    distance_m: float, humidity: float, air_k: float, alpha1: float, alpha2: float, beta1: float, beta2: float, x: float
) -> float:
    """The share of radiance that half of the air between object and camera lets pass (humidity from 0 to 1)."""
    air_c = air_k - ZERO_CELSIUS_K
    water = humidity * math.exp(1.5587 + 0.06939 * air_c - 0.00027816 * air_c**2 + 0.00000068455 * air_c**3)
    root = math.sqrt(distance_m / 2)
    first, second = (a + b * math.sqrt(water) for a, b in ((alpha1, beta1), (alpha2, beta2)))
    return x * math.exp(-root * first) + (1 - x) * math.exp(-root * second)


@dataclass(frozen=True, slots=True)
class _Path:
    """What is between object and camera: half of the air, a window, the other half. Temperatures in kelvin."""

    emissivity: float
    reflected_k: float
    air_k: float
    window: float
    window_k: float

    def correction(self, planck: PlanckConstants, air: float) -> tuple[float, float]:
        """Gain and offset that lead from a count to the object's signal; ``air``: the transmission of each half.

        The count is e.air.window.air S + (what is reflected, and what air and window radiate themselves).
        """
        reflected, air_signal, window_signal = (
            float(planck.signal(kelvin)) for kelvin in (self.reflected_k, self.air_k, self.window_k)
        )
        through = self.emissivity * air * self.window * air
        before_window = (1 - self.emissivity) * air * reflected + (1 - air) * air_signal
        behind_window = (before_window * self.window + (1 - self.window) * window_signal) * air + (1 - air) * air_signal
        return 1 / through, -behind_window / through
