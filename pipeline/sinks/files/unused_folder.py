"""Where images go if those of an earlier run must be kept: the first folder of a series without images."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from fusepipe.core.image_formats import READ_SUFFIXES


def unused_folder(folder: Path) -> Path:
    """``FOLDER``, ``FOLDER.2``, ``FOLDER.3`` ...: the first that is not a file and has no images."""
    numbered = (folder.with_name(f"{folder.name}.{number}") for number in count(2))
    return folder if _unused(folder) else next(candidate for candidate in numbered if _unused(candidate))


def _unused(folder: Path) -> bool:
    if not folder.is_dir():
        return not folder.exists()
    return all(path.suffix.lower() not in READ_SUFFIXES for path in folder.iterdir())
