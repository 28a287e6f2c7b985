"""The suffixes of image files; apart from what reads them, so that a mistyped name is reported without OpenCV."""

from __future__ import annotations

WRITTEN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
READ_SUFFIXES = WRITTEN_SUFFIXES | {".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".heic", ".heif"}
