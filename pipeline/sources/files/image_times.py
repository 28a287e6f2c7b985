"""Capture times of image files: from their names, or from EXIF (``DateTimeOriginal``, ``SubSecTimeOriginal``)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from fusepipe.core.units import S

MIN_MEDIAN_STEP_NS = 2_000_000  # no camera is faster: what looks like a fraction of a second is a counter
_EARLIEST_S, _LATEST_S = 946_684_800, 4_102_444_800  # 2000 and 2100: other numbers are no UNIX times

# 2024-05-01_12-30-15, 20240501T123015, FLIR_20240501_123015, DJI_20240501123015_0001, 2024-05-01 12h30m15s
_DATE = re.compile(r"(?<!\d)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[T _-]{0,3}(\d\d)[-_:.h]?(\d\d)[-_:.m]?(\d\d)")
# UNIX time in seconds, milliseconds, microseconds and nanoseconds
_EPOCH = re.compile(r"(?<!\d)(?:\d{10}|\d{13}|\d{16}|\d{19})(?!\d)")
# What may follow: a decimal fraction; else milliseconds, microseconds or nanoseconds; else no digits.
_FRACTION = re.compile(r"[.,](\d{1,9})(?!\d)|[s_-]?(\d{9}|\d{6}|\d{3})(?!\d)|(?![.,s_-]?\d)")
_COUNTER = re.compile(r"[_-]\d{4}(?!\d)")  # of four digits, as DJI's names have it after the date
_DECIMALS = re.compile(r"[.,](\d{1,9})(?!\d)|(?![.,]?\d)")


def name_time_ns(stem: str) -> int | None:
    """The time in a file's stem as UNIX time in nanoseconds (local times as if in UTC).

    ``None`` without one, or where digits follow it that may or may not be a fraction of a second.
    """
    if (date := _DATE.search(stem)) is not None and (whole_ns := _utc_ns([int(part) for part in date.groups()], "")):
        if _COUNTER.match(stem, date.end()):
            return whole_ns
        fraction = _FRACTION.match(stem, date.end())
        return None if fraction is None else whole_ns + _fraction_ns(fraction[1] or fraction[2] or "")
    if (epoch := _EPOCH.search(stem)) is None:
        return None
    unit_ns = 10 ** (19 - len(epoch[0]))
    # a number after "_" or "-" is a counter where the time itself is finer than a second
    fraction = (_FRACTION if unit_ns == S else _DECIMALS).match(stem, epoch.end())
    if fraction is None:
        return None
    digits = next((group for group in fraction.groups() if group), "")
    found_ns = int(epoch[0]) * unit_ns + _fraction_ns(digits) * unit_ns // S
    return found_ns if _EARLIEST_S <= found_ns // S < _LATEST_S else None


def exif_time_ns(path: Path) -> int | None:
    """``DateTimeOriginal`` with ``SubSecTimeOriginal`` as UNIX time in nanoseconds; ``None`` without one."""
    from PIL import ExifTags, Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images: only the header is read
            with Image.open(path) as image:
                exif = image.getexif()
                tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}  # TIFF may have them beside its own tags
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    text = str(tags.get(ExifTags.Base.DateTimeOriginal, "")).strip("\0 ")
    match = re.fullmatch(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)", text)
    digits = str(tags.get(ExifTags.Base.SubsecTimeOriginal, "")).strip("\0 ")
    return _utc_ns([int(part) for part in match.groups()], digits if digits.isdigit() else "") if match else None


def capture_times_ns(files: Sequence[Path]) -> tuple[list[int], str] | None:
    """The time of each file and where they are from, ``file names`` or ``EXIF``.

    ``None`` where a file has none, or two have the same: such times are too coarse to pair by.
    """
    times = [name_time_ns(path.stem) for path in files]
    if (found := _usable(times)) is not None:
        return found, "file names"
    if not files or exif_time_ns(files[0]) is None:
        return None
    found = _usable([exif_time_ns(path) for path in files])
    return None if found is None else (found, "EXIF")


def _usable(times: Sequence[int | None]) -> list[int] | None:
    known = [time_ns for time_ns in times if time_ns is not None]
    if not known or len(known) < len(times) or len(set(known)) < len(known):
        return None
    steps = sorted(after - before for before, after in pairwise(sorted(known)))
    return known if not steps or steps[len(steps) // 2] >= MIN_MEDIAN_STEP_NS else None


def _utc_ns(parts: Sequence[int], digits: str) -> int | None:
    try:
        moment = datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    return int(moment.timestamp()) * S + _fraction_ns(digits)


def _fraction_ns(digits: str) -> int:
    return int(digits[:9].ljust(9, "0")) if digits else 0
