"""Text for messages and summaries."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def shortlist(names: Sequence[str], most: int = 5) -> str:
    """``a, b, c and 7 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def sized(count_bytes: int) -> str:
    """``812 bytes``, ``14 kB``, ``1.7 MB``: decimal units, as disks have them."""
    if count_bytes < 1000:
        return counted(count_bytes, "byte")
    if count_bytes < 999_500:
        return f"{count_bytes / 1e3:.0f} kB"
    unit, divisor = ("MB", 1e6) if count_bytes < 999_500_000 else ("GB", 1e9)
    return f"{count_bytes / divisor:.{1 if count_bytes < 99.5 * divisor else 0}f} {unit}"
