"""Reading and writing one image file, without surprises.

OpenCV returns half a picture for some truncated files without a word; the end marks are therefore
checked first.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import cv2
import numpy as np

from fusepipe.frames import Frame, FusedFrame, Pixels, Plane
from fusepipe.pipeline import levels

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


class UnreadableImage(Exception):  # noqa: N818 - a result, counted by the caller
    """The file is not an image, or only a part of one; the argument says which."""


def read_pixels(path: Path) -> Pixels:
    """HxW (grey) or HxWx3 (B, G, R) of uint8 or uint16; EXIF orientation applied, alpha dropped.

    Raises :class:`UnreadableImage`, or ``OSError`` when the file cannot be read at all.
    """
    data = path.read_bytes()
    _check_complete(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise UnreadableImage(f"OpenCV cannot decode it: {error.err}") from error
    if pixels is None:
        raise UnreadableImage("not an image, or damaged")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"pixels are {pixels.dtype}; 8-bit and 16-bit integer images are supported")
    return np.asarray(pixels)


def _check_complete(data: bytes) -> None:
    if not data:
        raise UnreadableImage("the file is empty")
    if data.startswith(b"\x89PNG") and b"IEND" not in data[-64:]:
        raise UnreadableImage("truncated PNG (no end mark)")
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]:
        raise UnreadableImage("truncated JPEG (no end mark)")
    if data.startswith(b"RIFF") and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise UnreadableImage("truncated WebP")
    if data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little"):
        raise UnreadableImage("truncated BMP")


def infrared_planes(pixels: Pixels) -> tuple[Plane, ...]:
    """The luma of an infrared image, raw counts kept: (Y,), uint8 or uint16, full range."""
    if pixels.ndim == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))
    return (_plane(pixels),)


def visible_planes(pixels: Pixels, count_range: tuple[int, int] | None = None) -> tuple[Plane, ...]:
    """(Y,) of a grey or (Y, Cb, Cr) 4:4:4 of a colour image, uint8 full range, BT.601 (as JFIF).

    16-bit images are mapped to 8 bit first, from ``count_range`` or the full range.
    """
    if pixels.dtype == np.uint16:
        low, high = count_range or (0, 65535)
        pixels = levels.counts_to_luma(low, high)[pixels]
    if pixels.ndim == 2:
        return (_plane(pixels),)
    y, cr, cb = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_BGR2YCrCb))
    return _plane(y), _plane(cb), _plane(cr)


def _plane(pixels: Pixels) -> Plane:
    return Plane(pixels, 8 if pixels.dtype == np.uint8 else 16)


def to_bgr(frame: FusedFrame | Frame) -> Pixels:
    """HxW uint8 (grey) or HxWx3 uint8 (B, G, R), full range, for an image file.

    Full-size BT.601 chroma takes OpenCV's exact inverse of :func:`visible_planes`; else chroma is
    interpolated to full size and converted with the frame's own matrix (BT.601 or BT.709).
    """
    luma = levels.full_range_luma(frame.planes[0])
    if len(frame.planes) == 1:
        return luma
    height, width = luma.shape
    cb, cr = (_full_chroma(p, width, height) for p in frame.planes[1:])
    if frame.matrix == "bt601":
        return np.asarray(cv2.cvtColor(cv2.merge([luma, cr, cb]), cv2.COLOR_YCrCb2BGR))
    kr, kb = 0.2126, 0.0722  # ITU-R BT.709
    blue, red = 2 * (1 - kb), 2 * (1 - kr)
    mix = np.array(
        [
            [1, blue, 0, -128 * blue],
            [
                1,
                -blue * kb / (1 - kr - kb),
                -red * kr / (1 - kr - kb),
                128 * (blue * kb + red * kr) / (1 - kr - kb),
            ],
            [1, 0, red, -128 * red],
        ],
        np.float32,
    )
    return np.asarray(
        cv2.convertScaleAbs(np.maximum(cv2.transform(cv2.merge([luma, cb, cr]).astype(np.float32), mix), 0))
    )


def _full_chroma(plane: Plane, width: int, height: int) -> Pixels:
    pixels = plane.pixels
    if plane.value_range == "limited":
        pixels = cv2.LUT(pixels, levels.chroma_to_full())
    if pixels.shape != (height, width):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(pixels)


def write_pixels(path: Path, pixels: Pixels) -> None:
    """Writes an image so that ``path`` is either complete or not there: temporary file, then rename.

    Raises ``OSError`` as the file system gives it; the temporary file is gone then.
    """
    done, data = cv2.imencode(path.suffix, pixels)
    if not done:
        raise OSError(f"OpenCV cannot encode {pixels.shape} {pixels.dtype} as {path.suffix}")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with temporary.open("xb") as file:
            file.write(data.tobytes())
        os.replace(temporary, path)  # noqa: PTH105 - atomic, also over an existing file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
