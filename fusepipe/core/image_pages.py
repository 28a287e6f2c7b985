"""How many images an image file holds: pages of a TIFF, frames of an animated PNG or WebP; and reading them in order.

Pages of another size than the first, and those marked as reduced, are thumbnails or overviews of it, not frames.
Sources: TIFF 6.0 (section 2), BigTIFF, PNG third edition (11.3.2, acTL), WebP container specification (ANIM, ANMF).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fusepipe.core.frames import Pixels

DEFAULT_DURATION_MS = 40  # of a page without one, as at 25 fps
MAX_PAGES = 1 << 16  # a damaged TIFF can link its pages in a circle
BATCH = 16  # pages decoded at a time, to bound memory
_NEW_SUBFILE_TYPE, _WIDTH, _LENGTH, _REDUCED = 254, 256, 257, 1


def holds_many_images(path: Path) -> bool:
    """Whether an image file holds several images; raises ``OSError`` where it cannot be read."""
    return count_pages(path.read_bytes()) > 1


def is_png(path: Path) -> bool:
    """Whether a file is a PNG, by its first bytes; FFmpeg reads animated ones as videos."""
    with path.open("rb") as file:
        return file.read(4) == b"\x89PNG"


def count_pages(data: bytes) -> int:
    """The number of images in the bytes of an image file; 1 for every format with one image, and for damaged files."""
    try:
        if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
            return max(1, len(_tiff_frames(data)))
        if data.startswith(b"\x89PNG"):
            return _png_frames(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return max(1, _webp_frames(data))
    except (struct.error, IndexError):  # truncated: reported when it is decoded
        pass
    return 1


def _tiff_frames(data: bytes) -> list[int]:
    """The numbers of the pages that have the size of the first and are not reduced images."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, number, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    (at,) = struct.unpack_from(order + offset, data, 8 if big else 4)
    sizes: list[tuple[int, int] | None] = []
    seen: set[int] = set()
    while at and at not in seen and len(sizes) < MAX_PAGES:
        seen.add(at)
        (entries,) = struct.unpack_from(order + number, data, at)
        begin = at + struct.calcsize(number)
        values: dict[int, int] = {}
        for index in range(entries):
            where = begin + index * entry
            tag, kind = struct.unpack_from(order + "HH", data, where)
            if tag in (_NEW_SUBFILE_TYPE, _WIDTH, _LENGTH):
                value = order + ("H" if kind == 3 else "I")  # SHORT or LONG
                (values[tag],) = struct.unpack_from(value, data, where + (12 if big else 8))
        reduced = values.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED
        sizes.append(None if reduced else (values.get(_WIDTH, 0), values.get(_LENGTH, 0)))
        (at,) = struct.unpack_from(order + offset, data, begin + entries * entry)
    return [page for page, size in enumerate(sizes) if size is not None and size == sizes[0]]


def _png_frames(data: bytes) -> int:
    """The number of frames in the animation control chunk, which comes before the image data."""
    at = 8
    while data[at + 4 : at + 8] not in (b"IDAT", b"IEND"):
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"acTL":
            return max(1, int.from_bytes(data[at + 8 : at + 12], "big"))
        at += 12 + length
    return 1


def _webp_frames(data: bytes) -> int:
    at, frames = 12, 0
    while at + 8 <= len(data):
        frames += data[at : at + 4] == b"ANMF"
        (length,) = struct.unpack_from("<I", data, at + 4)
        at += 8 + length + length % 2
    return frames


def read_pages(path: Path, data: bytes) -> Iterator[tuple[Pixels | None, int | None]]:
    """The frames of a TIFF or animated WebP with their durations in ms (``None``: not known).

    HxW or HxWx3 (B, G, R) as :func:`fusepipe.core.image_files.read_pixels` gives them; ``None`` where a page cannot be
    decoded.
    """
    if data.startswith(b"RIFF"):
        yield from _webp_pages(data)
        return
    for page in _tiff_frames(data):
        done, pages = cv2.imreadmulti(str(path), page, 1, flags=cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
        yield (np.asarray(pages[0]) if done and pages else None), None


def _webp_pages(data: bytes) -> Iterator[tuple[Pixels, int]]:
    encoded = np.frombuffer(data, np.uint8)
    for begin in range(0, _webp_frames(data), BATCH):
        _, animation = cv2.imdecodeanimation(encoded, start=begin, count=BATCH)
        for pixels, duration_ms in zip(animation.frames, animation.durations, strict=True):
            yield np.asarray(pixels)[..., :3], int(duration_ms) or DEFAULT_DURATION_MS
