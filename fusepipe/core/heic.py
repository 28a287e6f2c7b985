"""HEIC images of phones, decoded with pillow-heif (extra ``heic``), which is imported at use.

Source of the brands: ISO/IEC 23008-12 (HEIF), 10.2 and annex B.
"""

from __future__ import annotations

import io

import numpy as np

from fusepipe.core.frames import Pixels

_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1"})


class HeicError(Exception):
    """The image cannot be decoded; the argument says why."""


def is_heic(data: bytes) -> bool:
    """Whether the bytes of a file begin as those of an HEIC image."""
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS


def decode_heic(data: bytes, max_pixels: int) -> Pixels:
    """HxW (grey) or HxWx3 (B, G, R) uint8 of the primary image, upright, alpha dropped.

    Raises :class:`HeicError` without pillow-heif, for damaged files, and for more than ``max_pixels``.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise HeicError("HEIC needs pillow-heif: pip install 'fusepipe[heic]'") from error
    try:
        image = pillow_heif.open_heif(io.BytesIO(data))
        width, height = image.size
        if width * height > max_pixels:
            raise HeicError(f"{width}x{height} exceeds the limit of {max_pixels} pixels")
        grey = image.mode == "L"
        pixels = np.asarray(image.to_pillow().convert("L" if grey else "RGB"))
    except (ValueError, OSError, RuntimeError, SyntaxError, EOFError) as error:
        raise HeicError(f"damaged HEIC: {error}") from error
    return pixels if grey else np.ascontiguousarray(pixels[..., ::-1])
