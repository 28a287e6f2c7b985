"""Image files: listing the images of a folder, reading and writing one.

OpenCV decodes the first part of some truncated files without an error; end markers are therefore
checked first.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from fusepipe.core import levels
from fusepipe.core.colour import bgr_to_planes, planes_to_bgr
from fusepipe.core.counts import ByteOrder
from fusepipe.core.errors import SourceError
from fusepipe.core.files import write_bytes
from fusepipe.core.frames import Frame, FusedFrame, Pixels, Plane
from fusepipe.core.heic import HeicError, decode_heic, is_heic
from fusepipe.core.image_formats import READ_SUFFIXES
from fusepipe.core.image_pages import count_pages, first_page
from fusepipe.core.image_values import UnmappedValues, are_counts, map_values
from fusepipe.core.natural_order import natural_key
from fusepipe.core.text import shortlist

MAX_PIXELS = 1 << 28  # a small file can declare an image that fills the memory
_JP2, _J2K = b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"  # signature box; start of codestream and image size
# 8-bit steps between the channels of an image: the mean that JPEG artefacts give a grey one, and the cast of grey
# that is two steps off in both chroma planes.
_MIN_SPREAD = 2.55
_MAX_CAST = 6.0
_JPEG_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, baseline to arithmetic


class UnreadableImage(Exception):  # noqa: N818 - a result, counted by the caller
    """The file is not an image, or only a part of one; the argument says which."""


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder in natural order of their stems; one file a stem.

    Raises :class:`SourceError` for a folder that is missing, unreadable, empty or ambiguous.
    """
    if folder.is_file():
        return [folder]
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in READ_SUFFIXES and not p.name.startswith(".")]
        files = [p for p in files if p.is_file()]  # a pipe would block for ever
    except FileNotFoundError as error:
        raise SourceError(f"{folder}: there is no such file or folder") from error
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read: {error.strerror}") from error
    if not files:
        kinds = ", ".join(sorted(s[1:] for s in READ_SUFFIXES))
        inside = f"; it holds folders: {shortlist(names)}" if (names := _folders_in(folder)) else ""
        raise SourceError(f"{folder}: there are no images in this folder (looked for {kinds}){inside}")
    files.sort(key=lambda p: natural_key(p.stem))
    for before, after in pairwise(files):
        if before.stem == after.stem:
            raise SourceError(
                f"{folder}: two images have the stem {after.stem!r}: {before.name}, {after.name}; keep one"
            )
    return files


def _folders_in(folder: Path) -> list[str]:
    return sorted((path.name for path in folder.iterdir() if path.is_dir()), key=natural_key)


def read_pixels(path: Path) -> Pixels:
    """HxW (grey) or HxWx3 (B, G, R) of uint8 or uint16; EXIF orientation applied, alpha dropped.

    Raises :class:`UnreadableImage`, or ``OSError`` when the file cannot be read at all.
    """
    return decode_pixels(path.read_bytes())


def decode_pixels(data: bytes) -> Pixels:
    """As :func:`read_pixels`, of the bytes of a file. Whole numbers of other types that are counts become uint16.

    Values that need a range to become grey levels are rejected.
    """
    pixels = decode_values(data)
    if are_counts(pixels):
        return pixels
    try:
        return map_values(pixels, None)
    except UnmappedValues as error:
        raise UnreadableImage(str(error)) from error


def decode_values(data: bytes) -> Pixels:
    """As :func:`decode_pixels`, with values of any type as they are in the file.

    A file of several images is rejected: which one is not known.
    """
    check_complete(data)
    if (pages := count_pages(data)) > 1:
        raise UnreadableImage(f"holds {pages} images; use the file itself as a source, or save each image in a file")
    if is_heic(data):
        try:
            return decode_heic(data, MAX_PIXELS)
        except HeicError as error:
            raise UnreadableImage(str(error)) from error
    try:
        pixels = _decode(np.frombuffer(data, np.uint8), first_page(data))
    except cv2.error as error:
        raise UnreadableImage(f"OpenCV cannot decode it: {error.err}") from error
    if pixels is None:
        raise UnreadableImage("not an image, or damaged")
    return np.asarray(pixels)


def _decode(encoded: NDArray[np.uint8], page: int) -> MatLike | None:
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    if not page:
        return cv2.imdecode(encoded, flags)
    done, pages = cv2.imdecodemulti(encoded, flags, range=(page, page + 1))
    return pages[0] if done and pages else None


def stated_byte_order(data: bytes) -> ByteOrder:
    """The order in which the format of a file stores the bytes of a 16-bit sample."""
    return "little" if data.startswith(b"II") else "big"  # TIFF says it; PNG and PNM are big-endian


def check_complete(data: bytes) -> None:
    """Raises :class:`UnreadableImage` for a truncated file, or one with more than ``MAX_PIXELS``.

    Data after the end marker is fine: phones append videos to their JPEG images.
    """
    if not data:
        raise UnreadableImage("the file is empty")
    if data.startswith(b"\x89PNG"):
        _check_png(data)
    elif data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"RIFF") and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise UnreadableImage("truncated WebP")
    elif data.startswith((_JP2, _J2K)):
        _check_jpeg_2000(data)
    elif data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little"):
        raise UnreadableImage("truncated BMP")


def _check_png(data: bytes) -> None:
    """Walks the chunks (length, type, data, checksum) up to IEND."""
    at = 8
    while data[at + 4 : at + 8] != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IHDR":
            width, height = (int.from_bytes(data[at + i : at + i + 4], "big") for i in (8, 12))
            _check_size(width, height)
        at += 12 + length
        if at + 8 > len(data):
            raise UnreadableImage("truncated PNG (no end marker)")


def _check_jpeg(data: bytes) -> None:
    """Walks the segments up to the start of scan, and looks for the end marker after it."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _JPEG_FRAME:
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            _check_size(width, height)
        if marker == 0xDA:  # start of scan: compressed data follows
            if data.find(b"\xff\xd9", at) < 0:
                raise UnreadableImage("truncated JPEG (no end marker)")
            return
        at += 1 if marker == 0xFF else 2 + length
    raise UnreadableImage("truncated JPEG (no image data)")


def _check_jpeg_2000(data: bytes) -> None:
    """Reads the size from the marker SIZ, with which the codestream begins (ISO/IEC 15444-1, A.5.1)."""
    at = data.find(_J2K)
    x1, y1, x0, y0 = struct.unpack_from(">4I", data, at + 8) if 0 <= at <= len(data) - 24 else (0, 0, 0, 0)
    if x1 <= x0 or y1 <= y0:
        raise UnreadableImage("truncated JPEG 2000 (no image size)")
    _check_size(x1 - x0, y1 - y0)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"{width}x{height} exceeds the limit of {MAX_PIXELS} pixels")


def infrared_image_planes(pixels: Pixels) -> tuple[Plane, ...]:
    """The luma of an infrared image, raw counts kept: (Y,), uint8 or uint16, full range."""
    if pixels.ndim == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))
    return (_plane(pixels),)


def is_coloured(pixels: Pixels) -> bool:
    """Whether an image from :func:`read_pixels` has more colour than encoders give a grey one."""
    if pixels.ndim == 2:
        return False
    return bool(_colour_spread(pixels).mean() > _MIN_SPREAD)


def _colour_spread(pixels: Pixels) -> NDArray[np.float32]:
    """N: the difference between the channels of every eighth pixel along each side of HxWx3, in steps of 8 bits.

    A weak cast of the whole image is left out: many encoders write grey with chroma 127 or 129 in place of 128.
    """
    small = pixels[::8, ::8].reshape(-1, 3).astype(np.float32) * (255 / np.iinfo(pixels.dtype).max)
    cast = np.median(small - small[:, 1:2], axis=0)
    without = small - np.clip(cast, -_MAX_CAST, _MAX_CAST)
    return np.asarray(without.max(axis=1) - without.min(axis=1), np.float32)


def visible_image_planes(pixels: Pixels, count_range: tuple[int, int] | None = None) -> tuple[Plane, ...]:
    """(Y,) of a grey or (Y, Cb, Cr) 4:4:4 of a colour image, uint8 full range, BT.601 (as JFIF).

    16-bit images are mapped to 8 bit first, from ``count_range`` or the full range.
    """
    if pixels.dtype == np.uint16:
        low, high = count_range or (0, 65535)
        pixels = levels.counts_to_luma(low, high)[pixels]
    if pixels.ndim == 2:
        return (_plane(pixels),)
    y, cb, cr = bgr_to_planes(np.asarray(pixels, np.uint8))
    return _plane(y), _plane(cb), _plane(cr)


def _plane(pixels: Pixels) -> Plane:
    return Plane(pixels, 8 if pixels.dtype == np.uint8 else 16)


def to_bgr(frame: FusedFrame | Frame) -> Pixels:
    """HxW uint8 (grey) or HxWx3 uint8 (B, G, R), full range, for an image file."""
    return planes_to_bgr(frame.planes, frame.matrix)


def write_pixels(path: Path, pixels: Pixels, *, overwrite: bool = True) -> None:
    """Writes an image atomically, in the format of its suffix.

    Raises ``OSError`` as the file system gives it, ``FileExistsError`` without ``overwrite``.
    """
    done, data = cv2.imencode(path.suffix, pixels)
    if not done:
        raise OSError(f"OpenCV cannot encode {pixels.shape} {pixels.dtype} as {path.suffix}")
    # not synced: at the rate of a video that would wait for the disk at each image
    write_bytes(path, data.data, overwrite=overwrite, durable=False)
