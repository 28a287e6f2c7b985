"""How many images an image file holds: pages of a TIFF, frames of an animated PNG or WebP; and reading them in order.

The frames of a TIFF are the pages of the size that most pages have, of the largest one where several sizes are equally
frequent. Other pages, and those marked as reduced, are thumbnails or overviews.
Sources: TIFF 6.0 (section 2), BigTIFF, PNG third edition (11.3.2, acTL), WebP container specification (ANIM, ANMF),
Multi-Picture Format (CIPA DC-007, 5.2).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fusepipe.core.frames import Pixels

DEFAULT_DURATION_MS = 40  # of a page without one, as at 25 fps
MAX_PAGES = 1 << 16  # a damaged TIFF can link its pages in a circle
BATCH = 16  # pages decoded at a time, to bound memory
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MP_IMAGES = 0xB001  # NumberOfImages
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
        if data.startswith(_TIFF):
            return max(1, len(_tiff_frames(data)))
        if data.startswith(b"\x89PNG"):
            return _png_frames(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return max(1, _webp_frames(data))
    except (struct.error, IndexError):  # truncated: reported when it is decoded
        pass
    return 1


def first_page(data: bytes) -> int:
    """The number of the page that is the first frame: not 0 where a TIFF begins with a thumbnail."""
    try:
        return next(iter(_tiff_frames(data)), 0) if data.startswith(_TIFF) else 0
    except (struct.error, IndexError):
        return 0


def unused_images(data: bytes) -> str:
    """What of an image file is not used, for a message such as ``a.tiff has ...``; empty where all is."""
    try:
        if data.startswith(_TIFF):
            sizes = [size for size in _tiff_sizes(data) if size is not None]
            others = len(sizes) - len(_tiff_frames(data))
            text = "1 page of another size, which is" if others == 1 else f"{others} pages of other sizes, which are"
            return f"has {text} left out" if others else ""
        if data.startswith(b"\xff\xd8") and (images := _mpo_images(data)) > 1:
            return f"has {images} images (MPO), of which only the first is used"
    except (struct.error, IndexError):  # truncated: reported when it is decoded
        pass
    return ""


def _mpo_images(data: bytes) -> int:
    """The number of images that the APP2 segment of a Multi-Picture JPEG states; 1 for other JPEG files."""
    at = 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:  # start of scan
        (length,) = struct.unpack_from(">H", data, at + 2)
        if data[at + 1] == 0xE2 and data[at + 4 : at + 8] == b"MPF\0":
            index = data[at + 8 : at + 2 + length]
            order = "<" if index[:2] == b"II" else ">"
            (begin,) = struct.unpack_from(order + "I", index, 4)
            (entries,) = struct.unpack_from(order + "H", index, begin)
            for entry in range(begin + 2, begin + 2 + 12 * entries, 12):
                tag, _, _, value = struct.unpack_from(order + "HHII", index, entry)
                if tag == _MP_IMAGES:
                    return int(value)
        at += 2 + length
    return 1


def _tiff_frames(data: bytes) -> list[int]:
    """The numbers of the pages that have the most frequent size, the largest of these, and are not reduced images."""
    sizes = _tiff_sizes(data)
    counted = Counter(size for size in sizes if size is not None)
    if not counted:
        return []
    chosen = max(counted, key=lambda size: (counted[size], size[0] * size[1]))
    return [page for page, size in enumerate(sizes) if size == chosen]


def _tiff_sizes(data: bytes) -> list[tuple[int, int] | None]:
    """(width, height) of each page; ``None`` for those that are marked as reduced images."""
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
    return sizes


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
