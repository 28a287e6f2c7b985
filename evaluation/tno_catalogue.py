"""What the TNO image fusion data set holds: names in the release, names here, checksums of the pixels.

The checksums are facts about the images; no image is part of this program.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from fusepipe.core.folders import data_folder
from fusepipe.core.frames import Luma8

ARTICLE = "1008029"
DOI = "doi:10.6084/m9.figshare.1008029"
PAGE = "https://doi.org/10.6084/m9.figshare.1008029"
ABOUT = f"""\
TNO Image Fusion Dataset: A. Toet, figshare, {DOI}
  {PAGE}
The images can freely be used for research purposes, and may be used in publications without prior notice,
provided proper credit is given to the owner (TNO, Soesterberg, The Netherlands) and the figshare data set is
properly referenced."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image: its name in the arranged layout, its size, the checksum of its pixels (:func:`digest`).

    ``release_file`` is its path in the release, empty for what the release does not have. ``n42`` and
    ``n25`` are its numbers in the selections that papers test on, empty where it is in none.
    """

    file: str
    width: int
    height: int
    pixels_sha256: str
    release_file: str
    n42: str
    n25: str


@cache
def catalogue() -> tuple[Item, ...]:
    """All images of the arranged layout: three sequences and 42 pairs."""
    text = files("fusepipe.evaluation").joinpath("tno_checksums.csv").read_text("utf-8")
    return tuple(
        Item(
            row["file"],
            int(row["width"]),
            int(row["height"]),
            row["pixels_sha256"],
            row["release_file"],
            row["n42"],
            row["n25"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def digest(luma: Luma8) -> str:
    """SHA-256 of ``b"WIDTH HEIGHT\\n"`` and the bytes of an HxW uint8 image, row by row: of pixels, not of files."""
    height, width = luma.shape
    return hashlib.sha256(f"{width} {height}\n".encode() + luma.tobytes()).hexdigest()


def tno_folder() -> Path:
    """``$FUSEPIPE_TNO``, else ``fusepipe/tno`` among the user's data."""
    named = os.environ.get("FUSEPIPE_TNO", "")
    if named:
        return Path(named)
    return data_folder("tno")


def still_pair_names(selection: str) -> frozenset[str]:
    """The names of the still pairs of a selection: ``n42`` or ``n25``."""
    return frozenset(Path(item.file).stem for item in catalogue() if getattr(item, selection))


def match_items(paths: Iterable[str], items: Iterable[Item]) -> dict[Item, list[str]]:
    """Which of ``paths`` (with ``/``, below any folder) go by the name of each item.

    An item may be there by its name in the release or in the arranged layout; case does not matter,
    for copies differ in it.
    """
    by_name: dict[str, list[str]] = {}
    for path in paths:
        by_name.setdefault(path.casefold().rpartition("/")[2], []).append(path)
    found: dict[Item, list[str]] = {}
    for item in items:
        for wanted in (item.release_file, item.file):
            for path in by_name.get(wanted.casefold().rpartition("/")[2], []):
                if wanted and f"/{path}".casefold().endswith(f"/{wanted}".casefold()):
                    found.setdefault(item, []).append(path)
    return found


def set_of(item: Item) -> str:
    """``nato_camp``, ``tree``, ``duine`` or ``pairs``."""
    parts = item.file.split("/")
    return parts[1] if parts[0] == "sequences" else parts[0]
