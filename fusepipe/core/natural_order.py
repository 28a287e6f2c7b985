"""The natural order of file names, shared by image folders and pairing by name."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"(\d+)")

SortKey = tuple[tuple[int, int, str], ...]


def natural_key(stem: str) -> SortKey:
    """Orders ``frame2`` before ``frame10``; a total order, so that two folders merge in one pass.

    Each run of digits compares as a number (ties, such as ``1`` and ``01``, by its text), every other
    part as text.
    """
    parts = _DIGITS.split(stem)
    return tuple((1, int(p), p) if i % 2 else (0, 0, p) for i, p in enumerate(parts) if p)
